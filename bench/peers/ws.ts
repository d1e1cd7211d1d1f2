/**
 * Plain WebSockets and Redis pub/sub: a watcher's `?jobs=a,b` are channels. Messages are JSON: the server sends
 * `{"ready":true}` when the channels are subscribed, and then each event as it is. A trainer sends
 * `{"publish":{"job":…,"events":[…]},"id":7}` and gets `{"published":7}` when Redis has them.
 */
import { Redis } from "ioredis";
import { type RawData, type WebSocket, WebSocketServer } from "ws";

interface Message {
  publish: { job: string; events: readonly unknown[] };
  id: number;
}

const port = Number(process.env.PORT);
const redis = new Redis(process.env.REDIS_URL as string);
const subscriber = redis.duplicate();
const watchers = new Map<string, Set<WebSocket>>();

subscriber.on("messageBuffer", (channel: Buffer, message: Buffer) => {
  for (const socket of watchers.get(channel.toString()) ?? []) socket.send(message, { binary: false });
});

async function watch(socket: WebSocket, jobs: readonly string[]): Promise<void> {
  for (const job of jobs) {
    const sockets = watchers.get(job) ?? new Set();
    watchers.set(job, sockets.add(socket));
  }
  socket.on("close", () => leave(socket, jobs));
  // Redis answers in order, so whoever comes second is not ready before the first one's subscription is.
  if (jobs.length > 0) await subscriber.subscribe(...jobs);
  socket.send('{"ready":true}');
}

function leave(socket: WebSocket, jobs: readonly string[]): void {
  for (const job of jobs) {
    const sockets = watchers.get(job);
    sockets?.delete(socket);
    if (sockets?.size !== 0) continue;
    watchers.delete(job);
    void subscriber.unsubscribe(job);
  }
}

async function publish(socket: WebSocket, data: RawData): Promise<void> {
  const { publish, id } = JSON.parse(data.toString()) as Message;
  await Promise.all(publish.events.map((event) => redis.publish(publish.job, JSON.stringify(event))));
  socket.send(`{"published":${id}}`);
}

const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate: false });
server.on("listening", () => console.log(`listening on ${port}`));
server.on("connection", (socket, request) => {
  const { searchParams } = new URL(request.url as string, "ws://server");
  socket.on("message", (data) => void publish(socket, data));
  socket.on("error", () => socket.terminate());
  void watch(socket, searchParams.get("jobs")?.split(",") ?? []);
});
