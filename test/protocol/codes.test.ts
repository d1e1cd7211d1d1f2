import { expect } from "chai";
import { CLOSES, type ErrorCode, HubError, REPLY_ERRORS } from "../../src/protocol/codes.ts";

describe("protocol/codes", () => {
  it("answers each code with a status of errors, and a temporary one with a status that means later", () => {
    for (const [code, { status, temporary, meaning }] of Object.entries(REPLY_ERRORS)) {
      expect(code).to.match(/^[a-z]+(_[a-z]+)*$/);
      expect(status, code).to.be.within(400, 599);
      expect(meaning, code).to.match(/^[A-Z`][^\n]+\.$/);
      if (status >= 500) expect(temporary, code).to.equal(true);
      if (temporary) expect([429, 500, 503, 507], code).to.include(status);
    }
  });

  it("closes with codes whose range says whether to connect again", () => {
    const codes = Object.values(CLOSES).map(({ code }) => code);
    expect(new Set(codes).size).to.equal(codes.length);
    for (const [reason, { code, reconnect, meaning }] of Object.entries(CLOSES)) {
      expect(code, reason).to.be.within(4_000, 4_999);
      expect(reconnect, reason).to.equal(code < 4_500);
      expect(meaning, reason).to.match(/^[A-Z][^\n]+\.$/);
    }
  });

  it("HubError(code) carries what the table says", () => {
    for (const code of Object.keys(REPLY_ERRORS) as ErrorCode[]) {
      const error = new HubError(code);
      const { status, temporary, meaning } = REPLY_ERRORS[code];
      expect(error.status).to.equal(status);
      expect(error.toJSON()).to.deep.equal({ code, message: meaning, temporary });
      expect(new HubError(code, "so").toJSON()).to.deep.equal({ code, message: "so", temporary });
    }
  });
});
