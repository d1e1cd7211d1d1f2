/** What is kept of a run. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pageOf } from "./page.ts";
import { type BenchResult, summaryOf } from "./report.ts";

/**
 * Writes `<date>-<commit>.json`, with every round, and `<date>-<commit>.html`, the page of plots; a quick run's end in
 * `-quick`. Answers their paths.
 */
export function writeResults(
  result: BenchResult,
  references: readonly string[],
  folder: string,
): { json: string; page: string } {
  mkdirSync(folder, { recursive: true });
  const { date, commit = "no-commit", quick } = result;
  const moment = date.slice(0, 19).replace("T", "-").replaceAll(":", "");
  const name = `${moment}-${commit.replace("+", "-changed")}${quick ? "-quick" : ""}`;
  const [json, page] = [join(folder, `${name}.json`), join(folder, `${name}.html`)];
  writeFileSync(json, `${JSON.stringify({ ...result, summary: summaryOf(result) }, null, 2)}\n`);
  writeFileSync(page, pageOf(result, references));
  return { json, page };
}
