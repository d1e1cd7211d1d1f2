import { Command } from "commander";
export function demoCommand(): Command {
  return new Command("demo");
}
export function startDemo(_url: string, _config: unknown, _log: unknown): { stop(): Promise<void> } {
  return { async stop() {} };
}
