/** Socket.IO alone: one process, nothing behind it. */
import { serveRooms } from "./rooms.ts";

serveRooms();
