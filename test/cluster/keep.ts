/** Keeps the histories of a run that has failed. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Complaint } from "./checker.ts";
import type { Told, View } from "./history.ts";
import type { Stage } from "./stage.ts";

/**
 * Writes one JSON object a line, into a new folder below the one that CLUSTER_HISTORY names (default: the system's
 * temporary folder), and answers its path.
 */
export function keepHistory(run: Stage, complaints: readonly Complaint[]): string {
  const folder = mkdtempSync(join(process.env.CLUSTER_HISTORY ?? tmpdir(), "trainwire-history-"));
  const write = (name: string, lines: readonly unknown[]) =>
    writeFileSync(join(folder, name), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const texts = new Map<Told, number>();
  const views = run.watchers.flatMap((watcher) => watcher.views);
  write("complaints.ndjson", complaints);
  write(
    "sent.ndjson",
    [...run.trainers, ...run.foreignTrainers].flatMap(({ sent }) => sent),
  );
  write(
    "views.ndjson",
    views.map((view) => shortened(view, texts)),
  );
  write(
    "texts.ndjson",
    [...texts].map(([{ text }, number]) => ({ number, text })),
  );
  for (const [{ tenantId }, { jobs, tenant }] of run.stored) {
    for (const log of [...(jobs[0] ?? []), ...tenant.slice(0, 1)]) {
      write(`log-${tenantId}-${log.jobId || "tenant"}.ndjson`, log.events);
    }
  }
  for (const { name, output } of run.hubs) writeFileSync(join(folder, `${name}.log`), output.join("\n"));
  return folder;
}

/** Deliveries as numbers of their texts. */
function shortened(view: View, texts: Map<Told, number>): object {
  const entries = view.entries.map((entry) => {
    if (entry.kind !== "event") return entry;
    const number = texts.get(entry) ?? texts.size;
    texts.set(entry, number);
    return number;
  });
  return { ...view, types: view.types && [...view.types], entries };
}
