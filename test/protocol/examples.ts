/** One event of every type with every field of features.md, part B. The compiler misses nobody: see `full`. */
import type { EventMap, EventType, PublishedEvent } from "../../src/protocol/types.ts";

/** All optional fields must be there. */
type Full<T> =
  T extends ReadonlyArray<infer E> ? Full<E>[] : T extends object ? { [K in keyof T]-?: Full<T[K]> } : T;

const JOB = {
  name: "BERT, again",
  kind: "lora",
  description: "the second try",
  dataset_id: "faces",
  agent_id: "agent-7",
  status: "queued",
  progress: 20,
  tags: ["a", "b"],
  products_total: 7,
} as const;

export const EXAMPLES: { [T in EventType]: Full<EventMap[T]> } = {
  training_progress: {
    epoch: 1.5,
    total_epochs: 10,
    step: 150,
    total_steps: 1_000,
    loss: 0.25,
    smooth_loss: "NaN",
    learning_rate: 1e-4,
    eta_seconds: 12.5,
    stage: "data analysis",
    stage_progress: 50,
    progress: 20,
    message: "epoch 2",
    current: 3,
    total: 7,
    metrics: { "val/accuracy": 0.5, grad_norm: "Infinity", worst: "-Infinity" },
  },
  training_status: {
    status: "failed",
    message: "out of memory",
    result: {
      final_loss: 0.1,
      model_path: "/models/1",
      duration_seconds: 60,
      successful: 3,
      failed: 1,
      metrics: { accuracy: 0.9 },
    },
    error: { type: "OutOfMemoryError", message: "no more", traceback: "at line 1\nat line 2" },
    end_reason: "out_of_memory",
  },
  sample_generated: {
    sample_id: "s-1",
    step: 100,
    epoch: 1,
    index: 0,
    total: 4,
    prompt: "a cat",
    seed: -42,
    media_type: "image/png",
    size_bytes: 1_024,
    url: "https://samples.example/1.png",
    width: 64,
    height: 64,
  },
  log: { level: "info", message: "a line", source: "stderr", line: 12, replaces_last: true },
  validation_result: { step: 1, epoch: 1, metrics: { psnr: 30 }, best: true, message: "better" },
  system_stats: {
    host: "node-1",
    cpu_percent: 250,
    cpu_count: 8,
    memory_used_bytes: 1,
    memory_total_bytes: 2,
    memory_percent: 50,
    disk_used_bytes: 1,
    disk_total_bytes: 2,
    network_received_bytes: 3,
    network_sent_bytes: 4,
    gpus: [
      {
        index: 0,
        name: "GPU",
        utilization_percent: 99,
        memory_used_bytes: 1,
        memory_total_bytes: 2,
        temperature_celsius: -5,
        power_watts: 300,
      },
    ],
  },
  job_created: { ...JOB, tags: [...JOB.tags], created_by: "me" },
  job_updated: { ...JOB, tags: [...JOB.tags], commands: ["pause", "custom"], updated_by: "me" },
  job_liveness: {
    liveness: "stale",
    reason: "silent",
    last_seen: "2026-01-02T03:04:05Z",
    last_step_at: "2026-01-02T03:04:04Z",
  },
  dataset_update: {
    dataset_id: "faces",
    action: "updated",
    name: "Faces",
    size_bytes: 1,
    rows: 2,
    updated_by: "me",
  },
  alert: { level: "critical", title: "disk full", message: "no room", source: "node-1" },
  product_completed: { total: 4, failed: false, message: "done", duration_seconds: 1.5 },
  checkpoint_saved: {
    step: 1,
    epoch: 2,
    name: "best",
    path: "/checkpoints/1",
    url: "https://models.example/1",
    size_bytes: 3,
    metrics: { loss: 0.5 },
    best: true,
  },
  command_update: {
    command_id: "c-1",
    action: "pause",
    state: "requested",
    args: { why: "lunch" },
    all: true,
    timeout_ms: 1_000,
    targets: ["trainer-1"],
    answered: 1,
    code: "command_failed",
    data: { step: 7 },
    message: "by the dashboard",
    requested_by: "me",
  },
  presence: { watchers: 2, users: ["me", "you"] },
  custom: { name: "anything", data: { nested: { list: [1, "two", null, true] } } },
};

export const ENVELOPE_EXAMPLE = {
  job_id: "job-1",
  timestamp: "2026-01-02T03:04:05.678+01:00",
  attempt: 2,
  rank: 3,
  product: "product 7",
  metadata: { machine_id: "m-1", stage: { nested: true } },
  id: "event-1",
  producer: { id: "trainer-1", incarnation: 1 },
  n: 5,
};

export function exampleOf(type: EventType): PublishedEvent {
  return { ...ENVELOPE_EXAMPLE, type, data: structuredClone(EXAMPLES[type]) };
}
