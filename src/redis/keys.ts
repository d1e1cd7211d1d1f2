/**
 * The one place that spells keys and channels. `{tenant}` is the hash tag: everything of a tenant is in one slot, so
 * that one script can change its job's feed, its tenant feed and the index.
 */
export class Keys {
  readonly #prefix: string;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  tenant(tenantId: string) {
    const base = `${this.#prefix}:{${tenantId}}:tenant`;
    return {
      meta: `${base}:meta`,
      events: `${base}:events`,
      channel: `${base}:live`,
      newest: `${base}:newest`,
      order: `${base}:newest-order`,
      dirty: `${base}:dirty`,
      index: `${base}:jobs`,
      ids: `${base}:ids`,
      producers: `${base}:producers`,
      deadlines: `${base}:deadlines`,
    };
  }

  job(tenantId: string, jobId: string) {
    const base = `${this.#prefix}:{${tenantId}}:job:${jobId}`;
    return {
      meta: `${base}:meta`,
      events: `${base}:events`,
      log: `${base}:log`,
      channel: `${base}:live`,
      newest: `${base}:newest`,
      members: `${base}:members`,
      points: `${base}:points`,
      series: `${base}:series`,
      buckets: `${base}:buckets`,
      ids: `${base}:ids`,
      producers: `${base}:producers`,
      watchers: `${base}:watchers`,
      trainers: `${base}:trainers`,
    };
  }

  channel({ tenantId, jobId }: { readonly tenantId: string; readonly jobId?: string }): string {
    return jobId === undefined ? this.tenant(tenantId).channel : this.job(tenantId, jobId).channel;
  }

  /** Where the server's generation has its name. */
  get generation(): string {
    return `${this.#prefix}:generation`;
  }

  /** Tenants that may have deadlines, by the time of the last one. */
  get tenants(): string {
    return `${this.#prefix}:tenants`;
  }

  /** Instances, by when they were heard of. */
  get instances(): string {
    return `${this.#prefix}:instances`;
  }

  /** What an instance has, of whatever tenant. */
  instance(name: string): string {
    return `${this.#prefix}:instance:${name}`;
  }

  /** What instances tell of themselves. */
  get reports(): string {
    return `${this.#prefix}:reports`;
  }

  /** Channel of one instance's messages to itself. */
  probe(name: string): string {
    return `${this.#prefix}:probe:${name}`;
  }

  /** Which instance does a common work. */
  lease(work: string): string {
    return `${this.#prefix}:lease:${work}`;
  }

  /** Channels of the Socket.IO adapter. */
  get adapter(): string {
    return `${this.#prefix}:sockets`;
  }
}
