/**
 * What every Socket.IO peer does, and all that it does: a watcher's `?jobs=a,b` are rooms, a trainer's `publish` goes
 * to the room of its job. Settings are those that Socket.IO's documents recommend for load.
 */
import { createServer } from "node:http";
import { Server, type ServerOptions, type Socket } from "socket.io";

interface Publish {
  job: string;
  events: readonly unknown[];
}

/** Listens on PORT; says so in one line. */
export function serveRooms(options: Partial<ServerOptions> = {}): void {
  const port = Number(process.env.PORT);
  const http = createServer();
  const io = new Server(http, {
    transports: ["websocket"],
    perMessageDeflate: false,
    serveClient: false,
    ...options,
  });
  io.on("connection", (socket: Socket) => {
    const { jobs } = socket.handshake.query;
    if (typeof jobs === "string") socket.join(jobs.split(","));
    // https://socket.io/docs/v4/memory-usage: else each connection keeps its first request. Not before the query is read.
    (socket.conn as { request: unknown }).request = null;
    socket.on("publish", ({ job, events }: Publish, acknowledge: () => void) => {
      for (const event of events) io.to(job).emit("event", event);
      acknowledge();
    });
  });
  http.listen(port, "127.0.0.1", () => console.log(`listening on ${port}`));
}
