/** The contract of `Store`, one sentence a test. Every implementation is held against all of it. */
import { bounds } from "./bounds.ts";
import { clients } from "./clients.ts";
import { cuts } from "./cuts.ts";
import { feeds } from "./feeds.ts";
import { idempotency } from "./idempotency.ts";
import { jobs } from "./jobs.ts";
import { lives } from "./lives.ts";
import { pages } from "./pages.ts";
import { series } from "./series.ts";
import { snapshot } from "./snapshot.ts";
import type { Open } from "./subject.ts";
import { tenantProgress } from "./tenant-progress.ts";
import { texts } from "./texts.ts";

export function storeSuite(name: string, open: Open): void {
  describe(`store: ${name}`, () => {
    describe("feeds", () => feeds(open));
    describe("idempotency", () => idempotency(open));
    describe("the state of a job", () => snapshot(open));
    describe("what a job is", () => jobs(open));
    describe("reading", () => pages(open));
    describe("pages for many", () => cuts(open));
    describe("bounds", () => bounds(open));
    describe("progress on the tenant's feed", () => tenantProgress(open));
    describe("payloads", () => texts(open));
    describe("two clients", () => clients(open));
    describe("curves", () => series(open));
    describe("lives", () => lives(open));
  });
}
