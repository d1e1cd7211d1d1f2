/** Events as the bench's trainers send them, and what watchers find in what has arrived. */
import { EVENT_BYTES, type Outgoing } from "./driver.ts";

const MARK = "#n=";
const N_DIGITS = 9;
const T_DIGITS = 16;
const T_AT = MARK.length + N_DIGITS + " t=".length;
const JOB = '"job_id":"';

export interface Stamp {
  n: number;
  sentUs: number;
}

/** The event as an object whose JSON has exactly the wanted length; more where that is too short for it. */
export function eventOf(job: string, outgoing: Outgoing): Record<string, unknown> {
  const stamp = `${MARK}${digits(outgoing.n, N_DIGITS)} t=${digits(outgoing.sentUs, T_DIGITS)} `;
  const make = (message: string) => ({
    ...(outgoing.kind === "progress" ? progress(outgoing.n, message) : log(message)),
    job_id: job,
    ...(outgoing.id !== undefined && { id: outgoing.id }),
  });
  const missing = (outgoing.bytes ?? EVENT_BYTES) - JSON.stringify(make(stamp)).length;
  return make(stamp + "x".repeat(Math.max(0, missing)));
}

/** `undefined` for what the server sends of its own. */
export function stampOf(text: string): Stamp | undefined {
  const at = text.indexOf(MARK);
  if (at < 0) return undefined;
  return { n: numberAt(text, at + MARK.length, N_DIGITS), sentUs: numberAt(text, at + T_AT, T_DIGITS) };
}

/** The event's job; `""` where it names none. */
export function jobOf(text: string): string {
  const at = text.indexOf(JOB);
  return at < 0 ? "" : text.slice(at + JOB.length, text.indexOf('"', at + JOB.length));
}

function log(message: string): Record<string, unknown> {
  return { type: "log", data: { level: "info", message } };
}

function progress(n: number, message: string): Record<string, unknown> {
  const loss = 1 / (1 + n);
  const metrics = { accuracy: 1 - loss, grad_norm: loss, "val/loss": loss, lr: 0.001, tokens: n };
  return { type: "training_progress", data: { step: n, metrics, message } };
}

function digits(value: number, count: number): string {
  return String(value).padStart(count, "0");
}

function numberAt(text: string, at: number, count: number): number {
  let value = 0;
  for (let i = at; i < at + count; i++) value = value * 10 + text.charCodeAt(i) - 48;
  return value;
}
