/** Trainwire with socket.io-client, as anybody uses it without the SDK. */
import { plainSocket } from "../../test/cluster/socket.ts";
import type { Driver } from "../driver.ts";
import { watchHub } from "./hub-watcher.ts";
import trainwire from "./trainwire.ts";

const driver: Driver = {
  watch: (options) => watchHub(plainSocket, options),
  publisher: trainwire.publisher,
};
export default driver;
