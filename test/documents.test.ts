/** The documents say what the code does: tables made from the code, import rules, packages, links. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { DOCUMENTS, tables, withTables } from "../scripts/tables.ts";
import { SETTINGS } from "../src/settings.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

interface Import {
  from: string;
  to: string;
  typeOnly: boolean;
}

const IMPORT =
  /^(?:import|export)\s+(type\s+)?[^'"]*?from\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm;

function imports(file: string): Import[] {
  return [...read(file).matchAll(IMPORT)].map(([, type, from, bare, dynamic]) => ({
    from: file,
    to: (from ?? bare ?? dynamic) as string,
    typeOnly: type !== undefined,
  }));
}

const ALL = [...sources("src"), ...sources("client")].flatMap(imports);

/** Rows of a table between `<!-- name -->` and `<!-- /name -->`: the code-quoted words of each cell. */
function rows(name: string): Array<string[][]> {
  const [, body] =
    new RegExp(`<!-- ${name} -->\\n([\\s\\S]*?)<!-- /${name} -->`).exec(read("ARCHITECTURE.md")) ?? [];
  const lines = (body ?? "").trim().split("\n").slice(2);
  return lines.map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, word]) => word as string)),
  );
}

describe("documents", () => {
  for (const document of DOCUMENTS) {
    it(`${document} has the tables as the code has them (npm run tables)`, () => {
      expect(read(document)).to.equal(withTables(read(document)));
    });
  }

  it("prints every table somewhere", () => {
    const all = DOCUMENTS.map(read).join("\n");
    for (const name of Object.keys(tables())) expect(all).to.include(`<!-- table:${name} -->`);
  });

  it("README's table of settings names every setting", () => {
    for (const { env } of SETTINGS) expect(read("README.md")).to.include(`\`${env}\``);
  });

  it("links only to files that are there", () => {
    for (const document of [...DOCUMENTS, "CHANGELOG.md"]) {
      for (const [, target] of read(document).matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
        const file = join(ROOT, dirname(document), target as string);
        expect(statSync(file, { throwIfNoEntry: false }), `${document}: ${target}`).to.not.equal(undefined);
      }
    }
  });
});

describe("ARCHITECTURE.md", () => {
  const parts = new Map(rows("imports").map(([own, may]) => [own?.[0] as string, may ?? []]));
  const partOf = (file: string) =>
    [...parts.keys()]
      .filter((part) => file === part || file.startsWith(`${part}/`))
      .sort((a, b) => b.length - a.length)[0];

  it("names every part", () => {
    for (const file of [...sources("src"), ...sources("client")])
      expect(partOf(file), file).to.not.equal(undefined);
  });

  it("lists every file of its tree, and no other", () => {
    const tree = read("ARCHITECTURE.md").split("## The house")[1]?.split("## Who may")[0] ?? "";
    for (const file of sources("src")) {
      const folder = dirname(file).split("/").at(-1) as string;
      if (["cli", "demo", "http"].includes(folder)) expect(tree, folder).to.include(`${folder}/`);
      else expect(tree, file).to.match(new RegExp(`\\b${file.split("/").at(-1)?.replaceAll(".", "\\.")} `));
    }
  });

  it("holds the import table", () => {
    const broken: string[] = [];
    for (const { from, to, typeOnly } of ALL.filter((each) => each.to.startsWith("."))) {
      const target = relative(ROOT, normalize(join(ROOT, dirname(from), to)));
      const [own, other] = [partOf(from) as string, partOf(target)];
      if (own === other || (typeOnly && target === "src/protocol/types.ts")) continue;
      if (!other || !parts.get(own)?.includes(other)) broken.push(`${from} imports ${target}`);
    }
    expect(broken).to.deep.equal([]);
  });

  it("has no part that nobody may import from without need", () => {
    const used = new Set(
      ALL.filter(({ to }) => to.startsWith(".")).map(
        ({ from, to }) =>
          `${partOf(from)} → ${partOf(relative(ROOT, normalize(join(ROOT, dirname(from), to))))}`,
      ),
    );
    for (const [own, may] of parts)
      for (const other of may) expect([...used]).to.include(`${own} → ${other}`);
  });

  it("gives each package its one room", () => {
    const rooms = new Map(rows("packages").map(([name, where]) => [name?.[0] as string, where ?? []]));
    const dependencies = Object.keys(JSON.parse(read("package.json")).dependencies);
    expect([...rooms.keys()].sort()).to.deep.equal(dependencies.sort());
    const broken: string[] = [];
    for (const { from, to } of ALL.filter(
      (each) => !each.to.startsWith(".") && !each.to.startsWith("node:"),
    )) {
      const name = to
        .split("/")
        .slice(0, to.startsWith("@") ? 2 : 1)
        .join("/");
      const allowed = rooms.get(name)?.some((room) => from === room || from.startsWith(`${room}/`));
      if (!allowed) broken.push(`${from} imports ${name}`);
    }
    expect(broken).to.deep.equal([]);
  });

  it("keeps transports and Redis out of the core", () => {
    const outside = ALL.filter(({ from }) => from.startsWith("src/core/")).map(({ to }) => to);
    for (const name of ["socket.io", "koa", "ioredis"]) expect(outside).to.not.include(name);
  });

  it("keeps process.env in config.ts", () => {
    for (const file of [...sources("src"), ...sources("client")]) {
      if (file !== "src/config.ts") expect(read(file), file).to.not.include("process.env");
    }
  });
});
