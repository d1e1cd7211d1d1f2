import { Command } from "commander";
export function emitCommand(): Command {
  return new Command("emit");
}
