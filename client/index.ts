/** The Trainwire SDK: `TrainwireClient` watches, `TrainwireTrainer` publishes. */
export type * from "../src/protocol/types.ts";
export type { ConnectionOptions, ConnectionState } from "./connection.ts";
export { TrainwireError } from "./errors.ts";
export type { Envelope } from "./prepare.ts";
export { type EventOptions, Run, type RunOptions } from "./run.ts";
export { Subscription, type SubscriptionEvents, type SubscriptionState } from "./subscription.ts";
export { TrainwireTrainer } from "./trainer.ts";
export type { TrainerOptions, TrainerStats } from "./trainer-options.ts";
export { type ClientEvents, type ClientOptions, TrainwireClient, type WatchRequest } from "./watcher.ts";
