/** Loaded into a hub before anything else (`node --import`): its clock is wrong by CLOCK_SHIFT_MS. Timers are not. */
const shift = Number(process.env.CLOCK_SHIFT_MS);
const Real = Date;

globalThis.Date = class extends Real {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(Real.now() + shift);
    else super(...(args as [number]));
  }

  static override now(): number {
    return Real.now() + shift;
  }
} as DateConstructor;
