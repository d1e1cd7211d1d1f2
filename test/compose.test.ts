import { execFile } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { parse } from "yaml";
import { searchPath } from "../scripts/requirements.ts";
import { loadConfig } from "../src/config.ts";
import { tempFolder } from "./support/cleanup.ts";
import { startTestHub } from "./support/hub.ts";
import { freePort } from "./support/ports.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string) => readFileSync(`${ROOT}${path}`, "utf8");
const SECRET = "0123456789abcdef0123456789abcdef";

/** What a program that is run to its end has said. */
function run(command: string, args: readonly string[], env: Record<string, string> = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const own = { PATH: searchPath(), HOME: process.env.HOME ?? "/", ...env };
    execFile(command, args, { cwd: ROOT, env: own, timeout: 30_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr });
    });
  });
}

/** As `config` prints it: everything interpolated, all anchors resolved. What the two generations write differently is a union. */
interface Service {
  image: string;
  build?: unknown;
  user?: string;
  init?: boolean;
  read_only?: boolean;
  restart?: string;
  cap_drop?: string[];
  security_opt?: string[];
  mem_limit?: string | number;
  stop_grace_period?: string;
  command?: string[];
  entrypoint?: string[];
  environment?: Record<string, string>;
  extra_hosts?: string[] | Record<string, string>;
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  logging?: { options: Record<string, string> };
  ulimits?: { nofile: { soft: number; hard: number } };
  networks: Record<string, { ipv4_address?: string } | null>;
  ports?: Array<string | { host_ip?: string; published: string | number; target: number }>;
  volumes?: Array<string | { source: string; target: string; read_only?: boolean }>;
}
interface Compose {
  services: Record<string, Service>;
  networks: Record<string, { internal?: boolean; ipam?: { config: Array<{ subnet: string }> } }>;
}

/** With an empty file in place of the `.env` of whoever runs the tests. */
async function config(env: Record<string, string>) {
  const folder = tempFolder("compose");
  const empty = join(folder.path, "env");
  writeFileSync(empty, "");
  const result = await run("docker-compose", ["--env-file", empty, "config"], env);
  folder.remove();
  return result;
}

async function composed(env: Record<string, string> = {}): Promise<Compose> {
  const { code, stdout, stderr } = await config({ JWT_SECRET: SECRET, ...env });
  expect(stderr).to.equal("");
  expect(code).to.equal(0);
  return parse(stdout);
}

/** `1536m`, `2g`, or bytes. */
function bytes(text: string | number | undefined): number {
  const [, number, unit] = /^(\d+)([kmg]?)b?$/i.exec(String(text)) ?? [];
  return Number(number) * 1024 ** " kmg".indexOf((unit || " ").toLowerCase());
}

/** `40s`, `1m10s`. */
function seconds(text = ""): number {
  const [, minutes = 0, rest = 0] = /^(?:(\d+)m)?(?:(\d+)s)?$/.exec(text) ?? [];
  return Number(minutes) * 60 + Number(rest);
}

/** Names of `extra_hosts` and their addresses. */
function hosts(service: Service): Record<string, string> {
  const { extra_hosts = {} } = service;
  if (!Array.isArray(extra_hosts)) return extra_hosts;
  return Object.fromEntries(extra_hosts.map((line) => line.split(/[:=]/) as [string, string]));
}

/** `host:port:port` */
function ports({ ports = [] }: Service): string[] {
  return ports.map((port) =>
    typeof port === "string"
      ? port.replace(/\/tcp$/, "")
      : `${port.host_ip ? `${port.host_ip}:` : ""}${port.published}:${port.target}`,
  );
}

/** `path:path:ro`, the first one within the project. */
function mounts({ volumes = [] }: Service): string[] {
  return volumes.map((volume) =>
    (typeof volume === "string"
      ? volume
      : `${volume.source}:${volume.target}:${volume.read_only ? "ro" : "rw"}`
    ).replace(ROOT, ""),
  );
}

describe("docker-compose.yml", () => {
  let compose: Compose;
  let hubs: Array<[string, Service]>;
  let all: Array<[string, Service]>;
  const service = (name: string) => compose.services[name] as Service;

  before(async () => {
    compose = await composed();
    all = Object.entries(compose.services);
    hubs = all.filter(([name]) => name.startsWith("hub-"));
  });

  it("wants JWT_SECRET", async () => {
    for (const env of [{}, { JWT_SECRET: "" }] as Array<Record<string, string>>) {
      const { code, stderr } = await config(env);
      expect(code).to.not.equal(0);
      expect(stderr).to.include("JWT_SECRET is wanted");
    }
  });

  it("consists of nginx, hubs and Redis", () => {
    expect(hubs.length).to.be.at.least(2);
    expect(all.map(([name]) => name).sort()).to.deep.equal([
      ...hubs.map(([name]) => name).sort(),
      "nginx",
      "redis",
    ]);
  });

  it("has the hubs that nginx knows, no more and no fewer, on the image's port", () => {
    const text = read("nginx/hubs.conf");
    const servers = [...text.matchAll(/\bserver\s+([\w-]+):(\d+)/g)];
    const names = hubs.map(([name]) => name).sort();
    expect([...new Set(servers.map(([, name]) => name))].sort()).to.deep.equal(names);
    expect([...new Set(servers.map(([, , port]) => port))]).to.deep.equal([environmentOfImage().PORT]);
    const sessions = [...text.matchAll(/^\s*\*\.([\w-]+)\s+([\w-]+);/gm)].map(([, label, hub]) => [
      label,
      hub,
    ]);
    expect(sessions.sort()).to.deep.equal(names.map((name) => [name, name]));
  });

  it("gives each hub its name, and an address of its own that nginx knows before the hub is there", () => {
    for (const [name, hub] of hubs) expect(hub.environment?.TRAINWIRE_INSTANCE_ID).to.equal(name);
    const addresses = Object.fromEntries(hubs.map(([name, hub]) => [name, hub.networks.front?.ipv4_address]));
    expect(
      new Set([...Object.values(addresses), service("nginx").networks.front?.ipv4_address]).size,
    ).to.equal(hubs.length + 1);
    expect(hosts(service("nginx"))).to.deep.equal(addresses);
  });

  it("moves all addresses with SUBNET", async () => {
    const moved = await composed({ SUBNET: "10.9.8" });
    expect(moved.networks.front?.ipam?.config).to.deep.equal([{ subnet: "10.9.8.0/24" }]);
    for (const [name, { networks, environment }] of Object.entries(moved.services)) {
      if (networks.front) expect(networks.front.ipv4_address, name).to.match(/^10\.9\.8\.\d+$/);
      if (environment) expect(environment.TRAINWIRE_TRUSTED_PROXIES, name).to.equal("10.9.8.10");
    }
    for (const address of Object.values(hosts(moved.services.nginx as Service))) {
      expect(address).to.match(/^10\.9\.8\./);
    }
  });

  it("gives hubs settings that serve, the same but for the name", () => {
    for (const [name, { environment }] of hubs) {
      const settings = loadConfig({ ...environmentOfImage(), ...environment });
      expect(settings.trustedProxies, name).to.deep.equal([service("nginx").networks.front?.ipv4_address]);
      const { TRAINWIRE_INSTANCE_ID: _, ...rest } = environment ?? {};
      const { TRAINWIRE_INSTANCE_ID: __, ...first } = hubs[0]?.[1].environment ?? {};
      expect(rest).to.deep.equal(first);
    }
  });

  it("keeps every container small, without rights, watched, and coming back", () => {
    for (const [name, each] of all) {
      expect(bytes(each.mem_limit), name).to.be.within(2 ** 26, 2 ** 32);
      expect(each.user, name)
        .to.be.a("string")
        .and.not.match(/^(?:0|root)\b/);
      expect(each.init, name).to.equal(true);
      expect(each.read_only, name).to.equal(true);
      expect(each.cap_drop, name).to.deep.equal(["ALL"]);
      expect(each.security_opt, name).to.deep.equal(["no-new-privileges:true"]);
      expect(each.restart, name).to.equal("unless-stopped");
      expect(each.healthcheck?.test, name).to.be.an("array").with.length.above(1);
      expect(each.logging?.options, name).to.include.keys("max-size", "max-file");
      expect(each.ulimits?.nofile.hard, name).to.be.at.least(10_000);
      expect(each.image, name).to.match(each.build ? /^trainwire$/ : /^\w+:\d+\.\d+-/);
    }
  });

  it("gives a hub room beside its heap, more files than connections, and time to drain", () => {
    for (const [name, hub] of hubs) {
      const settings = loadConfig({ ...environmentOfImage(), ...hub.environment });
      const [, heap] = /^--max-old-space-size=(\d+)$/.exec(hub.environment?.NODE_OPTIONS ?? "") ?? [];
      expect(Number(heap) * 2 ** 20, name).to.be.at.most(bytes(hub.mem_limit) * 0.75);
      expect(hub.ulimits?.nofile.soft, name).to.be.above(settings.maxConnections + 1_000);
      expect(seconds(hub.stop_grace_period), name).to.be.above(30);
      expect(seconds(hub.stop_grace_period) * 1_000, name).to.be.above(
        settings.drainMs + settings.shutdownMs,
      );
    }
  });

  it("starts hubs when Redis is healthy, and nginx whether there are hubs or not", () => {
    for (const [, hub] of hubs) expect(hub.depends_on?.redis?.condition).to.equal("service_healthy");
    expect(service("nginx").depends_on ?? {}).to.deep.equal({});
  });

  it("publishes nginx alone, on loopback unless told otherwise", async () => {
    const [, port] = /^listen\s+(\d+)/m.exec(read("nginx/listen.conf")) ?? [];
    for (const [name, each] of all) {
      expect(ports(each), name).to.deep.equal(name === "nginx" ? [`127.0.0.1:8080:${port}`] : []);
    }
    const open = await composed({ PUBLISH: "80" });
    expect(ports(open.services.nginx as Service)).to.deep.equal([`80:${port}`]);
  });

  it("has Redis in a network with hubs alone, which leads nowhere", () => {
    expect(Object.keys(service("redis").networks)).to.deep.equal(["store"]);
    expect(compose.networks.store?.internal).to.equal(true);
    expect(Object.keys(service("nginx").networks)).to.deep.equal(["front"]);
  });

  it("has nginx read the project's own files, which are there", () => {
    const paths = mounts(service("nginx"));
    expect(paths).to.deep.equal(["nginx.conf:/etc/nginx/nginx.conf:ro", "nginx:/etc/nginx/nginx:ro"]);
    for (const path of paths) expect(existsSync(`${ROOT}${path.split(":")[0]}`), path).to.equal(true);
    expect(service("nginx").entrypoint?.join(" ")).to.include("-c /etc/nginx/nginx.conf");
  });

  it("has Redis write every command to disk and throw nothing away", () => {
    const { command = [], mem_limit } = service("redis");
    const option = (name: string) => command[command.indexOf(`--${name}`) + 1];
    expect(command[0]).to.equal("redis-server");
    expect(option("appendonly")).to.equal("yes");
    expect(option("appendfsync")).to.equal("always");
    expect(option("maxmemory-policy")).to.equal("noeviction");
    expect(bytes(option("maxmemory"))).to.be.within(2 ** 26, bytes(mem_limit) * 0.6);
  });

  it("calls a hub healthy when it is ready", async () => {
    for (const [name, hub] of hubs) await expectCheck(hub.healthcheck?.test, "/readyz", name);
  });
});

/** A health check that asks a hub at the path: passes with a hub, fails without. */
async function expectCheck(check: readonly string[] | undefined, path: string, name?: string) {
  const [form, command, ...args] = check ?? [];
  expect(form, name).to.equal("CMD");
  expect(command, name).to.equal("node");
  expect(args.join(" "), name).to.include(path);
  const ask = async (port: number) => (await run(process.execPath, args, { PORT: String(port) })).code;
  const hub = await startTestHub();
  expect(await ask(Number(new URL(hub.url).port)), name).to.equal(0);
  await hub.close();
  expect(await ask(await freePort()), name).to.equal(1);
}

/** The Dockerfile's instructions, by stage: the first is FROM. */
function stages(): Array<Array<{ word: string; rest: string }>> {
  const lines = read("Dockerfile")
    .replaceAll(/^#.*\n/gm, "")
    .replaceAll("\\\n", " ")
    .split("\n")
    .filter((line) => line.trim() !== "");
  const found: Array<Array<{ word: string; rest: string }>> = [];
  for (const line of lines) {
    const [, word = "", rest = ""] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    if (word === "FROM") found.push([]);
    found.at(-1)?.push({ word, rest });
  }
  return found;
}

const lastStage = () => stages().at(-1) ?? [];
const instruction = (word: string) => lastStage().find((each) => each.word === word)?.rest ?? "";

function environmentOfImage(): Record<string, string> {
  const pairs = instruction("ENV")
    .split(/\s+/)
    .map((pair) => pair.split("=") as [string, string]);
  return Object.fromEntries(pairs);
}

/** Sources of a stage's COPY instructions, with the stage that they come from. */
function copies(stage: ReturnType<typeof lastStage>): Array<{ from?: string; path: string }> {
  return stage
    .filter(({ word }) => word === "COPY")
    .flatMap(({ rest }) => {
      const words = rest.split(/\s+/);
      const from = words[0]?.startsWith("--from=") ? words.shift()?.slice("--from=".length) : undefined;
      return words.slice(0, -1).map((path) => ({ path, ...(from !== undefined && { from }) }));
    });
}

describe("Dockerfile", () => {
  const nameOf = (stage: ReturnType<typeof lastStage>) => / AS (\w+)$/.exec(stage[0]?.rest ?? "")?.[1];

  it("is made of one base, a Node that the package takes", () => {
    const bases = new Set(stages().map(([from]) => from?.rest.split(" ")[0]));
    expect(bases.size).to.equal(1);
    const [, major] = /^node:(\d+)-/.exec([...bases][0] ?? "") ?? [];
    const [, least] = /^>=(\d+)\./.exec(JSON.parse(read("package.json")).engines.node) ?? [];
    expect(Number(major)).to.be.at.least(Number(least));
  });

  it("copies what is there, let through by .dockerignore, and from stages before", () => {
    const allowed = new Set([...read(".dockerignore").matchAll(/^!(.+)$/gm)].map(([, path]) => path));
    expect(read(".dockerignore")).to.match(/^\*$/m);
    const used = new Set<string>();
    const before = new Set<string | undefined>();
    for (const stage of stages()) {
      for (const { from, path } of copies(stage)) {
        if (from !== undefined) {
          expect(before, path).to.include(from);
          continue;
        }
        used.add(path);
        expect(existsSync(`${ROOT}${path}`), path).to.equal(true);
      }
      before.add(nameOf(stage));
    }
    expect([...used].sort()).to.deep.equal([...allowed].sort());
  });

  it("builds from all that the build reads", () => {
    const build = stages().find((stage) => nameOf(stage) === "build") ?? [];
    const copied = copies(build).map(({ path }) => path);
    const { extends: base, include } = JSON.parse(read("tsconfig.build.json"));
    expect(copied).to.include.members(["tsconfig.build.json", base.replace("./", ""), ...include]);
    expect(build.map(({ rest }) => rest)).to.include("npm run build");
    // What the script names beside them.
    for (const [path] of (JSON.parse(read("package.json")).scripts.build as string).matchAll(/\bsrc\/\S+/g)) {
      if (!path.startsWith("src/cli")) expect(existsSync(`${ROOT}${path}`), path).to.equal(true);
    }
  });

  it("ends with the command and what it needs, and without what only the build needs", () => {
    const copied = copies(lastStage());
    expect(copied).to.deep.include({ from: "build", path: "/trainwire/dist" });
    expect(copied).to.deep.include({ from: "dependencies", path: "/trainwire/node_modules" });
    const dependencies = stages().find((stage) => nameOf(stage) === "dependencies") ?? [];
    expect(dependencies.map(({ rest }) => rest).join("\n")).to.match(/npm ci --omit=dev/);
    const program = JSON.parse(read("package.json")).bin.trainwire;
    expect(JSON.parse(instruction("ENTRYPOINT"))).to.deep.equal(["node", program]);
    expect(copied.some(({ path }) => program.startsWith(`${path}/`))).to.equal(true);
    expect(JSON.parse(instruction("CMD"))).to.deep.equal(["serve"]);
  });

  it("runs without rights, is reached from outside, and is told to end by the signal that drains", () => {
    expect(instruction("USER")).to.match(/^[1-9]\d*:[1-9]\d*$/);
    expect(instruction("STOPSIGNAL")).to.equal("SIGTERM");
    const { HOST, PORT } = environmentOfImage();
    expect(HOST).to.equal("0.0.0.0");
    expect(instruction("EXPOSE")).to.equal(PORT);
  });

  it("is checked at /healthz, by Node", async () => {
    const [, command = "[]"] = /CMD (\[.*\])$/.exec(instruction("HEALTHCHECK")) ?? [];
    await expectCheck(["CMD", ...JSON.parse(command)], "/healthz");
  });
});
