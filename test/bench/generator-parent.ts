/** Starts generators, tells their pids, and waits to be killed. */
import { Generators } from "../../bench/generators.ts";

const generators = await Generators.start(2);
console.log(`pids ${[...generators.pids.values()].join(" ")}`);
setInterval(() => {}, 60_000);
