/** What a hub answers to a scrape, read as strictly as Prometheus' text format is written. */
import { expect } from "chai";

export interface Family {
  type: string;
  help: string;
}

export class Scraped {
  readonly families = new Map<string, Family>();
  /** `name{label="value",…}` → value. */
  readonly samples = new Map<string, number>();
  /** Every label's values. */
  readonly labels = new Map<string, Set<string>>();

  constructor(readonly text: string) {
    expect(text.endsWith("\n")).to.equal(true);
    let family = "";
    for (const line of text.split("\n")) {
      if (line === "") continue;
      const [, kind, name = "", rest = ""] = /^# (HELP|TYPE) ([a-z_][a-z0-9_]*) (.+)$/.exec(line) ?? [];
      if (kind === "HELP") {
        expect(this.families.has(name), `${name} twice`).to.equal(false);
        this.families.set(name, { help: rest, type: "" });
        family = name;
      } else if (kind === "TYPE") {
        expect(name).to.equal(family);
        Object.assign(this.families.get(name) as Family, { type: rest });
      } else this.#sample(line, family);
    }
  }

  /** The value of a sample; 0 for one that is not there. */
  value(sample: string): number {
    return this.samples.get(sample) ?? 0;
  }

  /** Samples that differ from an earlier scrape, by how much; of these families alone. */
  since(before: Scraped, ...families: string[]): Record<string, number> {
    const moved: Record<string, number> = {};
    for (const [sample, value] of this.samples) {
      const by = value - before.value(sample);
      const [name = ""] = sample.split("{");
      if (by !== 0 && families.includes(name)) moved[sample] = by;
    }
    return moved;
  }

  #sample(line: string, family: string): void {
    const [, name = "", labels = "", value = ""] =
      /^([a-z_][a-z0-9_]*)(?:\{(.*)\})? (-?[\d.e+-]+|NaN|\+Inf)$/i.exec(line) ?? [];
    expect(name, line).to.match(new RegExp(`^${family}(_bucket|_sum|_count)?$`));
    const pairs = [...labels.matchAll(/([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/g)];
    expect(pairs.map(([pair]) => pair).join("")).to.equal(labels);
    for (const [, label = "", text = ""] of pairs) {
      if (!this.labels.has(label)) this.labels.set(label, new Set());
      this.labels.get(label)?.add(text);
    }
    const sample = labels === "" ? name : `${name}{${labels}}`;
    expect(this.samples.has(sample), `${sample} twice`).to.equal(false);
    this.samples.set(sample, value === "+Inf" ? Number.POSITIVE_INFINITY : Number(value));
  }
}

export async function scrape(url: string): Promise<Scraped> {
  const reply = await fetch(`${url}/metrics`);
  expect(reply.status).to.equal(200);
  expect(reply.headers.get("content-type")).to.equal("text/plain; version=0.0.4; charset=utf-8");
  return new Scraped(await reply.text());
}
