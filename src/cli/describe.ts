/** One line of plain text for an event: what `watch` writes where there is no terminal. */
import { TERMINAL_STATUSES } from "../protocol/status.ts";
import type {
  DeliveredEvent,
  EventMap,
  EventType,
  Gap,
  Num,
  ProductCounts,
  Snapshot,
  SystemStats,
  TrainingProgress,
  TrainingStatus,
} from "../protocol/types.ts";
import { bytes, count, duration, number } from "./figures.ts";

/** `step 250/4,500`, or undefined when there is no figure. */
export function ofTotal(done: number | undefined, total: number | undefined): string | undefined {
  if (done === undefined) return undefined;
  const figure = (value: number) => (Number.isInteger(value) ? count(value) : value.toFixed(1));
  return total === undefined ? figure(done) : `${figure(done)}/${figure(total)}`;
}

/** Per cent of the job that is done, by the best figure that the trainer gives. */
export function percentDone(progress: TrainingProgress): number | undefined {
  const { progress: percent, step, total_steps, epoch, total_epochs, current, total } = progress;
  if (percent !== undefined) return percent;
  for (const [done, all] of [
    [step, total_steps],
    [epoch, total_epochs],
    [current, total],
  ]) {
    if (done !== undefined && all) return Math.min(100, (100 * done) / all);
  }
  return undefined;
}

export function metrics(values: Record<string, Num> | undefined): string[] {
  return Object.entries(values ?? {}).map(([name, value]) => metric(name, value));
}

export function metric(name: string, value: Num): string {
  return `${name} ${number(value)}${/psnr/i.test(name) && typeof value === "number" ? " dB" : ""}`;
}

/** `cpu 38 % of 2`, `memory 1.2 of 23.5 GiB`, and the GPUs. */
export function load(stats: SystemStats): string[] {
  const { cpu_percent, cpu_count, memory_used_bytes: used, memory_total_bytes: all, gpus = [] } = stats;
  const parts: Array<string | undefined> = [
    cpu_percent === undefined
      ? undefined
      : `cpu ${cpu_percent.toFixed(0)} %${cpu_count ? ` of ${cpu_count}` : ""}`,
    used === undefined ? undefined : `memory ${bytes(used)}${all ? ` of ${bytes(all)}` : ""}`,
    ...gpus.map((gpu) =>
      joined([
        `gpu ${gpu.index}`,
        gpu.utilization_percent === undefined ? undefined : `${gpu.utilization_percent.toFixed(0)} %`,
        gpu.memory_used_bytes === undefined ? undefined : bytes(gpu.memory_used_bytes),
        gpu.temperature_celsius === undefined ? undefined : `${gpu.temperature_celsius.toFixed(0)} °C`,
      ]),
    ),
  ];
  return parts.filter((part) => part !== undefined);
}

function joined(parts: ReadonlyArray<string | undefined | false>): string {
  return parts.filter(Boolean).join(" ");
}

type Words = { [T in EventType]: (data: EventMap[T]) => ReadonlyArray<string | undefined | false> };

const WORDS: Words = {
  training_progress(data) {
    const percent = percentDone(data);
    return [
      data.stage,
      data.step !== undefined && `step ${ofTotal(data.step, data.total_steps)}`,
      percent !== undefined && `${percent.toFixed(1)} %`,
      data.epoch !== undefined && `epoch ${ofTotal(data.epoch, data.total_epochs)}`,
      data.loss !== undefined && `loss ${number(data.loss)}`,
      data.learning_rate !== undefined && `lr ${number(data.learning_rate)}`,
      ...metrics(data.metrics),
      data.eta_seconds !== undefined && `eta ${duration(data.eta_seconds)}`,
      data.message,
    ];
  },
  training_status: (data) => [data.status, describeOutcome(data)],
  validation_result: (data) => [
    "validation",
    data.step !== undefined && `step ${count(data.step)}`,
    ...metrics(data.metrics),
    data.best && "(best)",
    data.message,
  ],
  sample_generated: (data) => [
    "sample",
    data.sample_id,
    data.step !== undefined && `step ${count(data.step)}`,
    data.width !== undefined && data.height !== undefined && `${data.width}×${data.height}`,
    data.media_type,
    data.size_bytes !== undefined && bytes(data.size_bytes),
    data.prompt,
  ],
  log: ({ level = "info", message, source }) => [level, source && `[${source}]`, message],
  system_stats: (data) => [data.host, load(data).join(", ")],
  job_created: ({ name, kind, created_by }) => [
    "created",
    created_by && `by ${created_by}`,
    name && `"${name}"`,
    kind,
  ],
  job_updated: ({ commands, products_total, updated_by: _, ...data }) => [
    Object.keys(data).length > 0 && `updated ${Object.keys(data).join(", ")}`,
    products_total !== undefined && `${count(products_total)} products`,
    commands && (commands.length > 0 ? `takes commands: ${commands.join(", ")}` : "takes no commands"),
  ],
  job_liveness: ({ liveness, reason }) => ["trainer is", liveness, reason && `(${reason})`],
  dataset_update: ({ dataset_id, action, name }) => ["dataset", dataset_id, action, name],
  alert: ({ level, title, message }) => ["alert", `(${level})`, title, message],
  product_completed: ({ failed, message }) => [
    `${failed ? "failed" : "completed"}${message === undefined ? "" : `: ${message}`}`,
  ],
  checkpoint_saved: ({ step, name, path, size_bytes, best }) => [
    "checkpoint",
    name ?? path ?? (step !== undefined && `step ${count(step)}`),
    size_bytes !== undefined && bytes(size_bytes),
    best && "(best)",
  ],
  command_update: (data) => ["command", data.action, describeCommand(data)],
  presence: ({ watchers }) => ["watched by", count(watchers)],
  custom: ({ name, data }) => ["custom", name, data && JSON.stringify(data)],
};

/** Where a command stands: `delivered to 2 trainers`, `applied: saved`. */
export function describeCommand(update: EventMap["command_update"]): string {
  const { state, requested_by, targets, all, code, message, data } = update;
  const parts: Array<string | undefined | false> = [
    state,
    state === "requested" && requested_by && `by ${requested_by}`,
    state === "requested" && all && "for every trainer",
    state === "delivered" &&
      targets &&
      `to ${count(targets.length)} trainer${targets.length === 1 ? "" : "s"}`,
  ];
  const why = message ?? code ?? (data && JSON.stringify(data));
  return `${joined(parts)}${why === undefined ? "" : `: ${why}`}`;
}

/** Why a job has ended, where that is not said by its status or its error already. */
const END_REASONS: Partial<Record<NonNullable<TrainingStatus["end_reason"]>, string>> = {
  user: "by its user",
  killed: "killed",
  preempted: "preempted",
  out_of_memory: "out of memory",
  time_limit: "out of time",
};

/** What a status says beside itself: the reason, the result, the error, the message. */
export function describeOutcome({ message, error, result, end_reason }: TrainingStatus): string {
  const { duration_seconds, final_loss, successful, failed } = result ?? {};
  const parts = [
    end_reason && END_REASONS[end_reason],
    duration_seconds !== undefined && `after ${duration(duration_seconds)}`,
    final_loss !== undefined && `loss ${number(final_loss)}`,
    ...metrics(result?.metrics),
    successful !== undefined && `${count(successful)} successful`,
    failed !== undefined && `${count(failed)} failed`,
    error && `${error.type ? `${error.type}: ` : ""}${error.message}`,
    message,
  ];
  return parts.filter(Boolean).join("  ");
}

/** The text is not made harmless here. */
export function describe(event: DeliveredEvent): string {
  const words = Object.hasOwn(WORDS, event.type)
    ? WORDS[event.type](event.data as never)
    : [event.type, JSON.stringify(event.data)];
  return joined([
    event.product !== undefined && `${event.product}:`,
    event.rank !== undefined && event.rank > 0 && `rank ${event.rank}:`,
    ...words,
    event.products && `(${describeProducts(event.products)})`,
  ]);
}

/** `1/3 done, 1 failed, 60 %` */
function describeProducts({ completed, failed, total, progress }: ProductCounts): string {
  return [
    `${ofTotal(completed, total)} done`,
    failed > 0 && `${count(failed)} failed`,
    `${progress.toFixed(0)} %`,
  ]
    .filter(Boolean)
    .join(", ");
}

export function describeGap({ reason, from, to, stream, epoch }: Gap): string {
  if (epoch === null) return "the job and its history are gone";
  if (reason === "reset") return "history was reset; this is how the job stands now";
  const what = stream === "log" ? "log lines" : "events";
  const where = from === undefined ? "" : ` (${from}${to === undefined ? " on" : ` to ${to}`})`;
  return reason === "trimmed"
    ? `older ${what} are not kept any more${where}`
    : `too many ${what} to catch up with; some are missing${where}`;
}

export function describeSnapshot(snapshot: Snapshot): string {
  const progress = snapshot.newest.find(({ type }) => type === "training_progress");
  return joined([
    snapshot.status,
    snapshot.attempt > 1 && `attempt ${snapshot.attempt}`,
    snapshot.liveness && snapshot.liveness !== "live" && `(trainer is ${snapshot.liveness})`,
    snapshot.name && `"${snapshot.name}"`,
    progress && !TERMINAL_STATUSES.has(snapshot.status) && describe(progress),
  ]);
}
