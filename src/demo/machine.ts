/** The load of the machine that trains, in the form of `system_stats`. */
import { hostname } from "node:os";
import { currentLoad, graphics, mem } from "systeminformation";
import type { Gpu, SystemStats } from "../protocol/types.ts";

const MEBIBYTE = 1_048_576;

/** Whether this machine has a GPU that tells its load; asking one that has none starts several programs for nothing. */
let hasGpus: boolean | undefined;

/** The CPU's load is that since the call before. */
export async function machineLoad(): Promise<SystemStats> {
  const [cpu, memory, gpus] = await Promise.all([currentLoad(), mem(), hasGpus === false ? [] : readGpus()]);
  hasGpus ??= gpus.length > 0;
  return {
    host: hostname(),
    cpu_percent: cpu.currentLoad,
    cpu_count: cpu.cpus.length,
    memory_used_bytes: memory.active,
    memory_total_bytes: memory.total,
    memory_percent: (100 * memory.active) / memory.total,
    ...(gpus.length > 0 && { gpus }),
  };
}

async function readGpus(): Promise<Gpu[]> {
  const { controllers } = await graphics();
  return controllers
    .filter(({ utilizationGpu }) => typeof utilizationGpu === "number")
    .map((controller, index) => {
      const gpu: Gpu = { index, name: controller.name ?? controller.model };
      if (controller.utilizationGpu !== undefined) gpu.utilization_percent = controller.utilizationGpu;
      if (controller.memoryUsed !== undefined) gpu.memory_used_bytes = controller.memoryUsed * MEBIBYTE;
      if (controller.memoryTotal !== undefined) gpu.memory_total_bytes = controller.memoryTotal * MEBIBYTE;
      if (controller.temperatureGpu !== undefined) gpu.temperature_celsius = controller.temperatureGpu;
      if (controller.powerDraw !== undefined) gpu.power_watts = controller.powerDraw;
      return gpu;
    });
}
