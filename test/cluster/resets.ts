/**
 * Judges runs in which Redis loses data: a feed's log begins anew under another epoch. What was acknowledged before is
 * gone, but every watcher is told so, and what it gets of one history it gets as of a feed that lost nothing. Here too
 * everything comes from the histories: of a log that is gone stands what its watchers have seen.
 */
import { type Complaint, judgeView } from "./checker.ts";
import type { Answered, FeedLog, GapTold, Told, View } from "./history.ts";

/** What a watcher got of one history of its feed. */
interface Stretch {
  /** `null`: the feed was not there. */
  epoch: string | null;
  /** How the watcher learnt of it; absent where the view begins. */
  told?: Answered | GapTold;
  entries: View["entries"];
  /** The watcher was told that what follows here is missing: who has come to the new history early may be. */
  upTo?: number;
}

/** A view through all histories of its feed: `pasts` by epoch, `log` the one that is there in the end. */
export function judgeThroughResets(
  view: View,
  log: FeedLog,
  pasts: ReadonlyMap<string, FeedLog>,
): Complaint[] {
  const about = `${view.watcher} on ${view.feed === "tenant" ? "the tenant's feed" : view.jobId}`;
  const complaints: Complaint[] = [];
  const stretches = stretchesOf(view);
  const end = stretches.at(-1);
  // Told that it is gone, it has the one that began then from its start, whether or not something was for it.
  if (end?.told && end.epoch === null && view.stayed && log.epoch !== "") end.epoch = log.epoch;
  const before = new Set<string>();
  for (const [i, stretch] of stretches.entries()) {
    const { epoch } = stretch;
    if (epoch === null) continue;
    const goesOn = i > 0 && stretches[i - 1]?.upTo !== undefined;
    if (before.has(epoch) && !goesOn)
      complaints.push({ rule: "I3", text: `${about}: epoch ${epoch} has come back` });
    before.add(epoch);
    const past = pasts.get(epoch);
    if (epoch === log.epoch) complaints.push(...judgeView(partOf(view, stretch), log));
    else if (past) complaints.push(...judgeView(partOf(view, stretch, past), past));
  }
  const last = end?.epoch ?? "";
  if (view.stayed && last !== log.epoch) {
    const text = `${about}: was not told that the history is another one, ${log.epoch || "none"} after ${last}`;
    complaints.push({ rule: "I1", text });
  }
  return complaints;
}

/** When each view was told of the first reset of its feed after `since`; ms since 1970. */
export function toldAt(view: View, since: number): number | undefined {
  const resets = stretchesOf(view).flatMap(({ told }) =>
    told && !(told.kind === "gap" && told.gap.reason === "overflow") ? [told] : [],
  );
  return resets.find(({ at = 0 }) => at >= since)?.at;
}

/** Cuts a view where its watcher was told that its feed begins anew, and only there. */
function stretchesOf(view: View): Stretch[] {
  let stretch: Stretch = { epoch: null, entries: [] };
  const stretches = [stretch];
  for (const entry of view.entries) {
    const told =
      entry.kind === "gap" ? resetOf(entry) : entry.kind === "answer" ? newStart(entry) : undefined;
    if (entry.kind === "gap" && isMissing(entry, stretch)) {
      stretch.upTo = (entry.gap.from as number) - 1;
      stretch = { epoch: stretch.epoch, told: entry, entries: [] };
      stretches.push(stretch);
      continue;
    }
    if (told) {
      stretch = { epoch: told.epoch, told: entry as Answered | GapTold, entries: [] };
      stretches.push(stretch);
      continue;
    }
    // Of what was not there whatever comes is the beginning.
    if (entry.kind !== "gap") stretch.epoch ??= entry.epoch;
    stretch.entries.push(entry);
  }
  return stretches;
}

/** Told as missing from one position to another, within one history. */
function isMissing({ gap }: GapTold, { epoch }: Stretch): boolean {
  return gap.reason === "overflow" && gap.epoch === epoch && gap.from !== undefined && gap.to === gap.seq;
}

function resetOf({ gap }: GapTold): { epoch: string | null } | undefined {
  return gap.reason === "reset" ? { epoch: gap.epoch } : undefined;
}

/** A refused resume begins anew; and so does one that finds the feed gone. */
function newStart({ recovered, epoch, since }: Answered): { epoch: string | null } | undefined {
  return !recovered || (epoch === null && since !== undefined && since.epoch !== "") ? { epoch } : undefined;
}

/** The stretch as a view of its own, which begins where its watcher was told that it does. */
function partOf(view: View, { epoch, told, entries, upTo }: Stretch, past?: FeedLog): View {
  const begins = told && epochOf(told) !== null ? [beginningOf(told)] : [];
  const all = [...begins, ...entries];
  const seqs = entries.flatMap((entry) => (entry.kind === "event" && entry.durable ? [entry.seq] : []));
  return {
    ...view,
    fromStart: told ? epochOf(told) === null : view.fromStart,
    // Of a log that is gone not all was seen by somebody: its counts are not known.
    entries: past ? all.map((entry) => (entry.kind === "answer" ? withoutState(entry) : entry)) : all,
    until: upTo ?? (past ? Math.max(0, ...seqs) : view.untilEpoch === epoch ? view.until : 0),
  };
}

function epochOf(told: Answered | GapTold): string | null {
  return told.kind === "gap" ? told.gap.epoch : told.epoch;
}

function beginningOf(told: Answered | GapTold): Answered {
  if (told.kind === "answer") {
    const { since: _, ...answer } = told;
    return { ...answer, recovered: true };
  }
  const { gap, snapshot } = told;
  return {
    ...{ kind: "answer", epoch: gap.epoch, seq: gap.seq, recovered: true, events: 0, more: false },
    ...(snapshot && { snapshot }),
  };
}

function withoutState({ snapshot: _, ...answer }: Answered): Answered {
  return answer;
}

/** What watchers have seen of the histories of one feed that are gone, by epoch. */
export function pastsOf(
  views: readonly View[],
  log: Pick<FeedLog, "epoch">,
): { pasts: Map<string, FeedLog>; complaints: Complaint[] } {
  const seen = new Map<string, Map<number, Told>>();
  const complaints: Complaint[] = [];
  for (const view of views) {
    for (const entry of view.entries) {
      if (entry.kind !== "event" || !entry.durable || entry.epoch === log.epoch) continue;
      const events = seen.get(entry.epoch) ?? new Map<number, Told>();
      seen.set(entry.epoch, events);
      const other = events.get(entry.seq);
      if (other && other.text !== entry.text) {
        const text = `${view.watcher}: ${entry.epoch}:${entry.seq} are two events:\n  ${entry.text}\n  ${other.text}`;
        complaints.push({ rule: "I3", text });
      } else events.set(entry.seq, entry);
    }
  }
  const pasts = new Map<string, FeedLog>();
  for (const [epoch, bySeq] of seen) {
    const events = [...bySeq.values()].sort((a, b) => a.seq - b.seq);
    const [{ feed, jobId }] = views as [View, ...View[]];
    pasts.set(epoch, { feed, jobId, epoch, seq: events.at(-1)?.seq ?? 0, events });
  }
  return { pasts, complaints };
}
