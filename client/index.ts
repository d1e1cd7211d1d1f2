/** The Trainwire SDK: `TrainwireClient` watches, `TrainwireTrainer` publishes. */
export type * from "../src/protocol/types.ts";
export type { CommandHandler, CommandHandlers, CommandResult } from "./commands.ts";
export type { ConnectionOptions, ConnectionState } from "./connection.ts";
export { TrainwireError } from "./errors.ts";
export { pointsOf } from "./points.ts";
export type { Envelope } from "./prepare.ts";
export type { Products } from "./products.ts";
export { type EventOptions, Run, type RunOptions } from "./run.ts";
export type { Stages, StageTable } from "./stages.ts";
export { Subscription, type SubscriptionEvents, type SubscriptionState } from "./subscription.ts";
export { TrainwireTrainer } from "./trainer.ts";
export type { TrainerOptions, TrainerStats } from "./trainer-options.ts";
export {
  type AskOptions,
  type ClientEvents,
  type ClientOptions,
  type CommandOptions,
  type SeriesOptions,
  TrainwireClient,
  type WatchRequest,
} from "./watcher.ts";
