/** The clock that all processes of a machine share. */

/** `performance.now` costs a fraction of `hrtime.bigint`, and stands at a fixed distance from it. */
const offsetUs = Number(process.hrtime.bigint() / 1_000n) - performance.now() * 1_000;

/** Microseconds of the monotonic clock, the same in every process of this machine. */
export function nowUs(): number {
  return Math.round(performance.now() * 1_000 + offsetUs);
}
