// `millrace controller`: gives a cluster's LoadBalancer Services their addresses, until it is told to stop.
import type { Command } from "commander";
import { CONTROLLER_SETTINGS } from "./controller-settings.ts";
import type { Wiring } from "./program.ts";
import { type FlagValues, flagOf, flagsByName } from "./run-command.ts";
import { environmentName } from "./settings.ts";

export function registerControllerCommand(program: Command, wiring: Wiring): void {
  const command = program
    .command("controller")
    .description("give LoadBalancer Services of a cluster their addresses, from MetalLB's IPAddressPools")
    .addHelpText(
      "after",
      `\nPrecedence: flags, environment (${environmentName("lease-name")} for --lease-name), defaults.`,
    );
  for (const setting of CONTROLLER_SETTINGS) command.addOption(flagOf(setting));
  command.action(async (values: FlagValues) => {
    const { readControllerOptions } = await import("./controller-options.ts");
    const flags = flagsByName(values, CONTROLLER_SETTINGS);
    const options = readControllerOptions({ flags, environment: process.env, configFile: "" });
    const { configureLog } = await import("../lib/log.ts");
    configureLog(options);
    const { controllerParts, createController } = await import("../controller/controller.ts");
    const controller = createController(options, controllerParts(options), wiring.stopSignal());
    const servers = await wiring.createControllerServers(options, controller.view);
    try {
      await controller.run();
    } finally {
      await servers.close();
    }
  });
}
