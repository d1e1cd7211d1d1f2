/**
 * The `trainwire` command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the job that was watched failed or was
 * cancelled, 130 interrupted.
 */
import { Command, CommanderError } from "commander";
import { ConfigError } from "../config.ts";
import { clusterCommand } from "./cluster.ts";
import { commandCommand } from "./command.ts";
import { demoCommand } from "./demo.ts";
import { emitCommand } from "./emit.ts";
import { serveCommand } from "./serve.ts";
import { harmless } from "./text.ts";
import { tokenCommand } from "./token.ts";
import { watchCommand } from "./watch.ts";

const program = new Command("trainwire")
  .description("A Socket.IO realtime hub for machine-learning training.")
  .exitOverride()
  .showHelpAfterError("(trainwire --help lists the commands)")
  .addCommand(serveCommand())
  .addCommand(clusterCommand())
  .addCommand(tokenCommand())
  .addCommand(watchCommand())
  .addCommand(emitCommand())
  .addCommand(commandCommand())
  .addCommand(demoCommand());
for (const command of program.commands) command.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    const lines = error instanceof ConfigError ? error.faults : [(error as Error).message];
    for (const line of lines) console.error(`trainwire: ${harmless(line)}`);
    process.exitCode = 1;
  }
}
