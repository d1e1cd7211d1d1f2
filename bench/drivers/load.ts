/** A driver by its name. */
import { pathToFileURL } from "node:url";
import type { Driver, DriverName } from "../driver.ts";

const OWN: Readonly<Record<string, () => Promise<{ default: Driver }>>> = {
  trainwire: () => import("./trainwire.ts"),
  "socket.io": () => import("./socket-io.ts"),
  ws: () => import("./ws.ts"),
  "trainwire-client": () => import("./trainwire-client.ts"),
  "trainwire-sdk": () => import("./trainwire-sdk.ts"),
};

/** Any other name is the path of a module whose default export is a Driver. */
export async function loadDriver(name: DriverName): Promise<Driver> {
  const own = OWN[name];
  const { default: driver } = own
    ? await own()
    : ((await import(pathToFileURL(name).href)) as { default: Partial<Driver> });
  if (typeof driver?.watch !== "function" || typeof driver.publisher !== "function")
    throw new Error(`${name} has no default export with watch and publisher`);
  return driver as Driver;
}
