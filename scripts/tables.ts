/**
 * The tables of the documents, made from the code. `npm run tables` writes them between their marks
 * (`<!-- table:name -->` … `<!-- /table -->`); `test/documents.test.ts` compares.
 */
import { readFileSync, writeFileSync } from "node:fs";
import type { TSchema } from "typebox";
import { type BenchResult, figureText, ratioText, targetText, verdictOf } from "../bench/report.ts";
import { METRICS, type MetricRow, PROCESS_METRICS } from "../src/metrics/table.ts";
import { CLOSES, REPLY_ERRORS } from "../src/protocol/codes.ts";
import { ENVELOPE, EVENTS } from "../src/protocol/events.ts";
import { LIMIT_TABLE, wireName } from "../src/protocol/limits.ts";
import { JOB_STATUSES, STATUS_TRANSITIONS } from "../src/protocol/status.ts";
import { NOTICES, VERBS } from "../src/protocol/verbs.ts";
import { LOG_MODULES, SETTINGS, type Setting } from "../src/settings.ts";

export const DOCUMENTS = [
  "PROTOCOL.md",
  "README.md",
  "ARCHITECTURE.md",
  "docs/operations.md",
  "docs/performance.md",
] as const;

/** The run of the bench that the documents quote. */
const PUBLISHED = new URL("../bench/results/2026-11-21-192855-cf751a2.json", import.meta.url);
/** What is quoted first. */
const QUOTED: readonly string[] = [
  ...["fanout", "fanout_single", "spread", "spread_burst", "latency", "latency_burst", "memory"],
  ...["ingest", "ingest_batch", "storm"],
];

function table(head: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

const code = (text: string) => `\`${text}\``;

interface Shape {
  type?: string;
  const?: unknown;
  enum?: readonly unknown[];
  anyOf?: readonly TSchema[];
  items?: TSchema;
  properties?: Record<string, TSchema>;
  required?: readonly string[];
  patternProperties?: Record<string, TSchema>;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
}

/** A schema in a few words. */
function form(schema: TSchema): string {
  const shape = schema as Shape;
  if (shape.const !== undefined) return JSON.stringify(shape.const);
  if (shape.enum) return shape.enum.map((value) => String(value)).join(" · ");
  if (shape.anyOf) {
    const [first, second] = shape.anyOf as Shape[];
    if (first?.type === "number" && second?.enum?.includes("NaN")) return "num";
    return shape.anyOf.map(form).join(" or ");
  }
  switch (shape.type) {
    case "string":
      return shape.maxLength === undefined ? "text" : `text ≤ ${shape.maxLength}`;
    case "integer":
    case "number":
      return `${shape.type}${range(shape)}`;
    case "array":
      return `list${shape.maxItems === undefined ? "" : ` ≤ ${shape.maxItems}`} of ${form(shape.items ?? {})}`;
    case "object":
      return objectForm(shape);
    default:
      return shape.type ?? "any";
  }
}

function range({ minimum, maximum }: Shape): string {
  const upper = maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? "" : String(maximum);
  if (minimum === undefined) return "";
  return upper ? ` ${minimum}–${upper}` : ` ≥ ${minimum}`;
}

function objectForm(shape: Shape): string {
  if (shape.patternProperties) {
    const [value] = Object.values(shape.patternProperties);
    return `map ≤ ${shape.maxProperties ?? "∞"} of ${form(value ?? {})}`;
  }
  const fields = Object.entries(shape.properties ?? {});
  return fields.length === 0 ? "object" : `{${fieldList(shape)}}`;
}

/** `name: form` for each field; a `?` marks those that may be absent. */
function fieldList(shape: Shape): string {
  const required = new Set(shape.required ?? []);
  return Object.entries(shape.properties ?? {})
    .map(([name, schema]) => `${name}${required.has(name) ? "" : "?"}: ${form(schema)}`)
    .join(", ");
}

function metricRow({ name, type, labels = {}, help }: MetricRow): string[] {
  const values = Object.entries(labels).map(
    ([label, known]) => `${code(label)}: ${typeof known === "string" ? known : known.join(" · ")}`,
  );
  return [code(name), type, values.join("; "), help];
}

function bounds({ kind, min, max, unit }: Setting): string {
  if (kind !== "integer") return unit ?? "";
  return [unit, min !== undefined && max !== undefined ? `${min}–${max}` : ""].filter(Boolean).join(", ");
}

function benchTable(keys?: readonly string[]): string {
  const { rows, systems } = JSON.parse(readFileSync(PUBLISHED, "utf8")) as BenchResult;
  const ours = systems[0]?.name as string;
  const shown = keys ? keys.flatMap((key) => rows.find((row) => row.key === key) ?? []) : rows;
  return table(
    ["", "measure", "Trainwire", "reference", "ratio (95 %)", "target", ""],
    shown.map((row) => [
      code(row.key),
      row.title,
      figureText(row, ours),
      row.reference === undefined ? "" : figureText(row, row.reference),
      row.kind === "absolute" ? "" : ratioText(row),
      targetText(row),
      verdictOf(row),
    ]),
  );
}

export function tables(): Record<string, string> {
  return {
    events: table(
      ["type", "class", "conflation key", "belongs to", "tenant feed", "stream", "made by"],
      Object.entries(EVENTS).map(([type, kind]) => [
        code(type),
        kind.class,
        kind.key ? ["job", ...kind.key].join(", ") : "",
        kind.scope === "either" ? "job or tenant" : kind.scope,
        kind.scope === "tenant"
          ? "yes"
          : kind.tenantFeed === "merged"
            ? "merged"
            : kind.tenantFeed
              ? "yes"
              : "",
        kind.stream ?? "",
        kind.hubOnly ? "hub" : "trainer",
      ]),
    ),
    data: table(
      ["type", "`data`"],
      Object.entries(EVENTS).map(([type, kind]) => [code(type), fieldList(kind.data as Shape)]),
    ),
    envelope: table(
      ["field", "form"],
      Object.entries(ENVELOPE).map(([name, schema]) => [code(name), form(schema)]),
    ),
    verbs: table(
      ["verb", "namespaces", "request"],
      Object.entries(VERBS).map(([verb, { namespace, request }]) => [
        code(verb),
        namespace.map(code).join(", "),
        verb === "publish" ? "one event or a list of events" : `{${fieldList(request as Shape)}}`,
      ]),
    ),
    notices: NOTICES.map(code).join(", "),
    transitions: table(
      ["from, to", ...JOB_STATUSES.map(code)],
      JOB_STATUSES.map((from) => [
        code(from),
        ...JOB_STATUSES.map((to) => (STATUS_TRANSITIONS[from].includes(to) ? "yes" : "")),
      ]),
    ),
    errors: table(
      ["code", "HTTP", "temporary", "meaning"],
      Object.entries(REPLY_ERRORS).map(([name, { status, temporary, meaning }]) => [
        code(name),
        String(status),
        temporary ? "yes" : "",
        meaning,
      ]),
    ),
    closes: table(
      ["reason", "code", "connect again", "meaning"],
      Object.entries(CLOSES).map(([reason, { code: number, reconnect, meaning }]) => [
        code(reason),
        String(number),
        reconnect ? "yes" : "no",
        meaning,
      ]),
    ),
    limits: table(
      ["limit", "value", "meaning"],
      Object.entries(LIMIT_TABLE).map(([name, { value, meaning }]) => [
        code(wireName(name)),
        String(value),
        meaning,
      ]),
    ),
    settings: table(
      ["setting", "default", "unit, range", ""],
      (SETTINGS as readonly Setting[]).map((setting) => [
        code(setting.env),
        setting.default ? code(setting.default) : (setting.derived ?? ""),
        bounds(setting),
        setting.about,
      ]),
    ),
    metrics: table(["metric", "type", "labels", "what it tells"], METRICS.map(metricRow)),
    process: table(["metric", "type", "labels", "what it tells"], PROCESS_METRICS.map(metricRow)),
    bench: benchTable(),
    ratios: benchTable(QUOTED),
    modules: table(
      ["module", "what it logs below `warn`"],
      Object.entries(LOG_MODULES).map(([name, about]) => [code(name), about]),
    ),
  };
}

const MARK = /(<!-- table:([a-z]+) -->\n)([\s\S]*?)(<!-- \/table -->)/g;

/** The document with its tables as the code has them. */
export function withTables(text: string): string {
  const all = tables();
  return text.replace(MARK, (_, open: string, name: string, _old: string, close: string) => {
    if (!(name in all)) throw new Error(`no table ${name}`);
    return `${open}${all[name]}\n${close}`;
  });
}

if (process.argv.includes("--write")) {
  for (const document of DOCUMENTS) {
    const url = new URL(`../${document}`, import.meta.url);
    writeFileSync(url, withTables(readFileSync(url, "utf8")));
  }
}
