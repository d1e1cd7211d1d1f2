/**
 * A trainer in a process of its own, for tests that kill it: publishes log lines as one producer, one call at a time,
 * until it is refused for good. Prints a line of JSON per answer: `{n, position}` or `{n, refused}`.
 *
 * Arguments: URL, token, job, producer, incarnation.
 */
import { io } from "socket.io-client";
import type { Answer, PublishAnswer } from "../../src/protocol/types.ts";

const [url, token, job, id, incarnation] = process.argv.slice(2) as [string, string, string, string, string];
const socket = io(`${url}/trainer`, {
  auth: { token },
  transports: ["websocket"],
  reconnectionDelayMax: 200,
});
const producer = { id, incarnation: Number(incarnation) };

for (let n = 1; ; ) {
  const event = { type: "log", job_id: job, data: { message: `${incarnation}/${n}` }, producer, n };
  let answer: Answer<PublishAnswer>;
  try {
    answer = await socket.timeout(1_000).emitWithAck("publish", event);
  } catch {
    continue;
  }
  const [refused] = answer.ok ? answer.data.refused : [answer.error];
  if (refused?.temporary) continue;
  console.log(JSON.stringify(refused ? { n, refused: refused.code } : { n }));
  if (refused) break;
  n++;
}
socket.disconnect();
