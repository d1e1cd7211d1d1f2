import { buildHub, type HubBuild } from "../cluster/hub-process.ts";
import { ROWS } from "./rows.ts";
import { figuresOf, SHORT } from "./scenario.ts";

/** FAULT_SEED repeats the choices of a run. */
const seed = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);
/** Complaints in the failure's message; the kept history has all. */
const SHOWN = 20;

describe(`faults in short (FAULT_SEED=${seed})`, function () {
  // Only against hanging.
  this.timeout(180_000);
  let build: HubBuild;

  before(async () => {
    build = await buildHub();
  });
  after(() => build?.remove());

  for (const row of ROWS) {
    it(`row ${row.number}: ${row.fault}: ${row.people}`, async () => {
      const outcome = await row.run({ build, seed, size: SHORT });
      const { complaints, said, recovered, told } = outcome;
      const figures = [
        `recovered ${figuresOf(recovered)}`,
        ...(told.length > 0 ? [`told ${figuresOf(told)}`] : []),
      ];
      console.log(`      ${[...said, ...figures].join("; ")}`);
      if (complaints.length === 0) return;
      const lines = complaints.slice(0, SHOWN).map(({ rule, text }) => `${rule}: ${text}`);
      throw new Error(
        `${complaints.length} complaints with FAULT_SEED=${seed}, history in ${outcome.keep()}:\n${lines.join("\n")}`,
      );
    });
  }
});
