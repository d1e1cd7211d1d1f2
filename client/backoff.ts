/**
 * Full jitter: anywhere between zero and the exponential step, so that clients which were cut together do not come
 * back together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). Socket.IO's own back-off
 * cannot do it: `randomizationFactor: 1` spreads over twice the step and then cuts off, so at the maximum half of all
 * clients wait exactly that long.
 */
export function backoff(failures: number, baseMs: number, maxMs: number): number {
  return Math.random() * Math.min(maxMs, baseMs * 2 ** Math.min(failures, 30));
}
