/** Socket.IO with its Redis adapter as the documents set it up. */
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { serveRooms } from "./rooms.ts";

const publisher = new Redis(process.env.REDIS_URL as string);
serveRooms({ adapter: createAdapter(publisher, publisher.duplicate()) });
