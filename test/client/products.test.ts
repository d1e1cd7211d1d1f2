import { expect } from "chai";
import { isValid } from "./scripted-hub.ts";
import { Bench } from "./trainer-support.ts";

describe("run.products(total)", () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = await Bench.start();
  });
  afterEach(() => bench.stop());

  it("says the total once and each product once; one that failed may complete", async () => {
    const run = bench.trainer.run("a", { rank: 1 });
    const products = run.products(3);
    expect(run.products(3)).to.equal(products);
    products.complete("p1", { duration_seconds: 3 });
    products.complete("p1");
    products.fail("p1", "too late");
    products.fail("p2", "no data");
    products.fail("p2");
    expect([products.total, products.completed, products.failed]).to.deep.equal([3, 1, 1]);
    products.complete("p2");
    products.fail("p3");
    expect([products.completed, products.failed]).to.deep.equal([2, 1]);
    await bench.trainer.flush();
    expect(bench.store.events.map(({ type, product, data }) => [type, product, data])).to.deep.equal([
      ["job_updated", undefined, { products_total: 3 }],
      ["product_completed", "p1", { total: 3, duration_seconds: 3 }],
      ["product_completed", "p2", { total: 3, failed: true, message: "no data" }],
      ["product_completed", "p2", { total: 3 }],
      ["product_completed", "p3", { total: 3, failed: true }],
    ]);
    expect(bench.store.events.every((event) => isValid(event) && event.rank === 1)).to.equal(true);
  });

  it("says another total", async () => {
    const run = bench.trainer.run("a");
    run.products(3);
    run.products(4).complete("p");
    await bench.trainer.flush();
    expect(bench.store.events.map(({ data }) => data)).to.deep.equal([
      { products_total: 3 },
      { products_total: 4 },
      { total: 4 },
    ]);
  });

  it("has a product's own progress on a run of its own, which is still the job's", async () => {
    const run = bench.trainer.run("a", { attempt: 2, product: "all" });
    const product = run.product("p1");
    product.progress({ step: 1 });
    product.onCommand("save", () => {});
    await bench.until("a", "save");
    product.end();
    await bench.trainer.flush();
    expect(bench.store.events.map((event) => [event.product, event.attempt])).to.deep.equal([["p1", 2]]);
    expect(bench.announced("a")).to.have.length(1);
  });
});
