/** Socket.IO with the sharded Redis adapter; `dynamic` is for rooms that few servers have members of, as jobs are. */
import { createShardedAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { serveRooms } from "./rooms.ts";

const publisher = new Redis(process.env.REDIS_URL as string);
const subscriber = publisher.duplicate();
serveRooms({ adapter: createShardedAdapter(publisher, subscriber, { subscriptionMode: "dynamic" }) });
