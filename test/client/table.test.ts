import { expect } from "chai";
import {
  CONFLATION,
  COMMAND_ACTIONS as COPIED_ACTIONS,
  CURVE_FIELDS as COPIED_FIELDS,
  TERMINAL_STATUSES as COPIED_STATUSES,
  isConflatable,
  isDurable,
  KEPT_LIMITS,
} from "../../client/event-table.ts";
import { EVENT_TYPES, EVENTS } from "../../src/protocol/events.ts";
import { COMMAND_ACTIONS } from "../../src/protocol/forms.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import { TERMINAL_STATUSES } from "../../src/protocol/status.ts";
import { CURVE_FIELDS } from "../../src/store/reduce.ts";

describe("the SDK's copy of the event table", () => {
  it("has the hub's types, classes and conflation keys", () => {
    expect(Object.keys(CONFLATION).sort()).to.deep.equal([...EVENT_TYPES].sort());
    for (const type of EVENT_TYPES) {
      expect(isConflatable(type), type).to.equal(EVENTS[type].class === "conflatable");
      expect(isDurable(type), type).to.equal(EVENTS[type].class === "durable");
      expect(CONFLATION[type], type).to.deep.equal(EVENTS[type].key);
    }
  });

  it("has the hub's limits", () => {
    for (const [name, limit] of Object.entries(KEPT_LIMITS)) {
      expect(limit, name).to.equal(LIMITS[name as keyof typeof LIMITS]);
    }
  });

  it("has the hub's terminal statuses", () => {
    expect([...COPIED_STATUSES]).to.deep.equal([...TERMINAL_STATUSES]);
  });

  it("has the hub's actions of commands", () => {
    expect([...COPIED_ACTIONS]).to.deep.equal([...COMMAND_ACTIONS]);
  });

  it("has the fields that are metrics", () => {
    expect([...COPIED_FIELDS]).to.deep.equal([...CURVE_FIELDS]);
  });

  it("knows nothing of other types", () => {
    expect(isConflatable("toString")).to.equal(false);
    expect(isDurable("of_the_future")).to.equal(false);
  });
});
