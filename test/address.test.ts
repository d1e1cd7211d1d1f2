import type { IncomingMessage } from "node:http";
import { expect } from "chai";
import { clientAddress, networksOf } from "../src/address.ts";

function from(peer: string | undefined, forwarded?: string): IncomingMessage {
  const headers = { ...(forwarded !== undefined && { "x-forwarded-for": forwarded }) };
  return { socket: { remoteAddress: peer }, headers } as unknown as IncomingMessage;
}

describe("clientAddress", () => {
  const nobody = networksOf([]);
  const proxies = networksOf(["127.0.0.1", "10.0.0.0/8", "fd00::/8", "::1"]);

  it("is the connection's other end, whatever a header says", () => {
    expect(clientAddress(from("192.0.2.7"), nobody)).to.equal("192.0.2.7");
    for (const peer of ["192.0.2.7", "11.0.0.1", "2001:db8::1"])
      expect(clientAddress(from(peer, "198.51.100.1"), proxies)).to.equal(peer);
  });

  it("is what a trusted proxy has seen: the last entry, for the others are anybody's", () => {
    for (const peer of ["127.0.0.1", "10.255.0.1", "fd12::1", "::1"]) {
      expect(clientAddress(from(peer, "198.51.100.1"), proxies)).to.equal("198.51.100.1");
      expect(clientAddress(from(peer, "10.6.6.6, evil,198.51.100.1"), proxies)).to.equal("198.51.100.1");
      expect(clientAddress(from(peer, " 2001:db8::9 "), proxies)).to.equal("2001:db8::9");
    }
  });

  it("is the proxy itself where that has said nothing that is an address", () => {
    for (const said of [
      undefined,
      "",
      "unknown",
      "198.51.100.1, ",
      "1.2.3.4:80",
      "a\r\nb",
      "x".repeat(9_000),
    ])
      expect(clientAddress(from("10.0.0.1", said), proxies), String(said)).to.equal("10.0.0.1");
  });

  it("is IPv4 also where it came as IPv6, in the list as well", () => {
    expect(clientAddress(from("::ffff:192.0.2.7"), nobody)).to.equal("192.0.2.7");
    expect(clientAddress(from("::ffff:10.1.2.3", "::FFFF:198.51.100.1"), proxies)).to.equal("198.51.100.1");
    for (const network of ["::ffff:192.0.2.7", "::ffff:192.0.2.0/120"])
      expect(clientAddress(from("192.0.2.7", "198.51.100.1"), networksOf([network]))).to.equal(
        "198.51.100.1",
      );
    expect(clientAddress(from("192.0.2.7", "::1"), networksOf(["0.0.0.0/0"]))).to.equal("::1");
  });

  it("leaves out the link of an address, and is unknown when the connection has gone", () => {
    expect(clientAddress(from("fe80::1%eth0"), nobody)).to.equal("fe80::1");
    expect(clientAddress(from(undefined, "198.51.100.1"), networksOf(["0.0.0.0/0", "::/0"]))).to.equal(
      "unknown",
    );
  });
});
