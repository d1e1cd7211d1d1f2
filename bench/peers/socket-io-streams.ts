/** Socket.IO with the Redis streams adapter and connection state recovery. */
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { serveRooms } from "./rooms.ts";

const redis = new Redis(process.env.REDIS_URL as string);
serveRooms({
  // Events are JSON: nobody need look for binary data in them.
  adapter: createAdapter(redis, { onlyPlaintext: true }),
  connectionStateRecovery: {},
});
