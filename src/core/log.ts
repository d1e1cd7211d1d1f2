/** What core and doors see of the log. */

export interface HubLog {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** The log of a part, which has a level of its own. */
export interface PartLog extends HubLog {
  /** Asked before the fields of frequent lines are put together. */
  isLevelEnabled(level: "debug"): boolean;
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
}

export interface PartLogs {
  feeds: PartLog;
  sockets: PartLog;
  redis: PartLog;
}

export const NO_LOG: PartLog = {
  isLevelEnabled: () => false,
  debug() {},
  info() {},
  warn() {},
  error() {},
};

/** Parts that say nothing below `warn`, and that in the hub's log. */
export function silentParts(log: HubLog): PartLogs {
  const part: PartLog = {
    ...NO_LOG,
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  };
  return { feeds: part, sockets: part, redis: part };
}
