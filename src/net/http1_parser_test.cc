#include "net/http1_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace warmpath::net {
namespace {

using Event = Http1Parser::Event;

// What a parser made of its input, told the same way however the input was cut.
struct Reading {
  std::string messages;  // "GET /x [H=v,...] body|"
  int error = 0;
  bool operator==(const Reading&) const = default;
};

std::string Describe(Http1Parser& parser, bool requests) {
  std::string text =
      requests ? parser.method() + " " + parser.target() : std::to_string(parser.status());
  text += " [";
  for (const auto& [name, value] : parser.headers())
    text.append(name).append("=").append(value).append(",");
  return text + "] ";
}

Reading Read(Http1Parser parser, bool requests, const std::vector<std::string_view>& pieces,
             bool close = false) {
  Reading reading;
  for (std::string_view piece : pieces) {
    for (bool more = true; more;) {
      switch (parser.Next(piece)) {
        case Event::kNeedMore:
          EXPECT_TRUE(piece.empty());
          more = false;
          break;
        case Event::kHead:
          reading.messages += Describe(parser, requests);
          break;
        case Event::kBody:
          reading.messages += parser.body();
          break;
        case Event::kEnd:
          reading.messages += "|";
          parser.Reset();
          more = !piece.empty();
          break;
        case Event::kError:
          reading.error = parser.error_status();
          return reading;
      }
    }
  }
  if (close && parser.started()) {
    if (parser.Close() == Event::kEnd) {
      reading.messages += "|";
    } else {
      reading.error = parser.error_status();
    }
  }
  return reading;
}

Reading ReadRequest(std::string_view bytes, Http1Limits limits = {}) {
  return Read(Http1Parser::ForRequests(limits), true, {bytes});
}
Reading ReadResponse(std::string_view bytes, bool close = false) {
  return Read(Http1Parser::ForResponses({}), false, {bytes}, close);
}

const char* const kRequests[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /x?y=1 HTTP/1.1\r\nhost:a:80\r\nX:  y z\t\r\n\r\nGET /2 HTTP/1.1\r\nHost: "
    "[::1]:8\r\n\r\n",
    "POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /v2 "
    "HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
    "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
    "Chunked\r\n\r\n5\r\nhello\r\n00A\r\n0123456789\r\n0\r\nT: v\r\n\r\n"
    "GET /n HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:1/p?q HTTP/1.1\r\nHost: A:1\r\n\r\n",
    "POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "PUT /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
    "PUT /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
};

TEST(Http1Parser, EverySplitGivesTheSameReading) {
  for (const std::string_view text : kRequests) {
    const Reading whole = ReadRequest(text);
    for (size_t cut = 0; cut <= text.size(); ++cut) {
      EXPECT_EQ(Read(Http1Parser::ForRequests({}), true, {text.substr(0, cut), text.substr(cut)})
                    .messages,
                whole.messages)
          << text << " cut at " << cut;
    }
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
    EXPECT_EQ(Read(Http1Parser::ForRequests({}), true, bytes), whole) << text;
  }
}

TEST(Http1Parser, ReadsRequests) {
  EXPECT_EQ(ReadRequest(kRequests[0]).messages, "GET / [Host=a,] |");
  EXPECT_EQ(ReadRequest(kRequests[1]).messages,
            "GET /x?y=1 [host=a:80,X=y z,] |GET /2 [Host=[::1]:8,] |");
  EXPECT_EQ(ReadRequest(kRequests[2]).messages,
            "POST /v1 [Host=a,Content-Length=5,] hello|POST /v2 [Content-Length=1,] x|");
  EXPECT_EQ(ReadRequest(kRequests[3]).messages,
            "POST /c [Host=a,Transfer-Encoding=Chunked,] hello0123456789|GET /n [Host=a,] |");
  EXPECT_EQ(ReadRequest(kRequests[5]).messages, "GET /p?q [Host=A:1,] |");
}

struct Refused {
  const char* what;
  std::string bytes;
  int status;
};

TEST(Http1Parser, RefusesWhatCouldBeReadTwoWays) {
  const std::string h = "Host: a\r\n";
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  const std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
  const Refused table[] = {
      {"both lengths", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"both lengths, other order",
       post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400},
      {"repeated length", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400},
      {"listed length", post + "Content-Length: 3, 3\r\n\r\n", 400},
      {"signed length", post + "Content-Length: +3\r\n\r\n", 400},
      {"negative length", post + "Content-Length: -3\r\n\r\n", 400},
      {"hex length", post + "Content-Length: 0x3\r\n\r\n", 400},
      {"empty length", post + "Content-Length:\r\n\r\n", 400},
      {"huge length", post + "Content-Length: 99999999999999999999\r\n\r\n", 400},
      {"list of codings", post + "Transfer-Encoding: chunked, identity\r\n\r\n", 501},
      {"other coding", post + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"near miss coding", post + "Transfer-Encoding: xchunked\r\n\r\n", 501},
      {"quoted coding", post + "Transfer-Encoding: \"chunked\"\r\n\r\n", 501},
      {"coding with control",
       post + "Transfer-Encoding: \x0b"
              "chunked\r\n\r\n",
       400},
      {"repeated coding", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
       400},
      {"coding in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"no host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
      {"target of another host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"folded line", "GET / HTTP/1.1\r\n" + h + "X: a\r\n b\r\n\r\n", 400},
      {"folded by tab", "GET / HTTP/1.1\r\n" + h + "X: a\r\n\tb\r\n\r\n", 400},
      {"first line folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"blank before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
      {"no name", "GET / HTTP/1.1\r\n" + h + ": x\r\n\r\n", 400},
      {"no colon", "GET / HTTP/1.1\r\n" + h + "X\r\n\r\n", 400},
      {"name with bracket", "GET / HTTP/1.1\r\n" + h + "X[0]: x\r\n\r\n", 400},
      {"nul in value", std::string("GET / HTTP/1.1\r\nHost: a\r\nX: a") + '\0' + "b\r\n\r\n", 400},
      {"bare lf", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"bare lf in fields", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400},
      {"bare cr in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400},
      {"cr cr lf", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
      {"names a framing field",
       post + "Connection: close, Content-Length\r\nContent-Length: 1\r\n\r\n", 400},
      {"chunk extension", chunked + "1;a=b\r\nx\r\n0\r\n\r\n", 400},
      {"blank after chunk size", chunked + "1 \r\nx\r\n0\r\n\r\n", 400},
      {"signed chunk size", chunked + "+1\r\nx\r\n0\r\n\r\n", 400},
      {"prefixed chunk size", chunked + "0x1\r\nx\r\n0\r\n\r\n", 400},
      {"empty chunk size", chunked + "\r\nx\r\n0\r\n\r\n", 400},
      {"huge chunk size", chunked + "fffffffffffffffff\r\n", 400},
      {"largest chunk size", chunked + "1\r\nx\r\nffffffffffffffff\r\n", 413},
      {"chunk longer than said", chunked + "1\r\nxy\r\n0\r\n\r\n", 400},
      {"chunk line by lf", chunked + "1\nx\n0\n\n", 400},
      {"bad trailer", chunked + "0\r\nX : y\r\n\r\n", 400},
      {"folded trailer", chunked + "0\r\nX: y\r\n z\r\n\r\n", 400},
      {"method", "G(T / HTTP/1.1\r\n" + h + "\r\n", 400},
      {"target with blank", "GET / x HTTP/1.1\r\n" + h + "\r\n", 400},
      {"two blanks", "GET  / HTTP/1.1\r\n" + h + "\r\n", 400},
      {"target without slash", "GET x HTTP/1.1\r\n" + h + "\r\n", 400},
      {"authority form", "CONNECT a:80 HTTP/1.1\r\n" + h + "\r\n", 400},
      {"fragment", "GET /#x HTTP/1.1\r\n" + h + "\r\n", 400},
      {"beyond ascii", "GET /\xc3\xa4 HTTP/1.1\r\n" + h + "\r\n", 400},
      {"http/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"http/0.9", "GET /\r\n\r\n", 400},
      {"lower-case version", "GET / http/1.1\r\n" + h + "\r\n", 400},
      {"1.2", "GET / HTTP/1.2\r\n" + h + "\r\n", 505},
      {"many empty lines", "\r\n\r\nGET / HTTP/1.1\r\n" + h + "\r\n", 400},
      {"expectation", post + "Expect: tea\r\n\r\n", 417},
  };
  for (const Refused& row : table) {
    const Reading whole = ReadRequest(row.bytes);
    EXPECT_EQ(whole.error, row.status) << row.what;
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < row.bytes.size(); ++i)
      bytes.push_back(std::string_view(row.bytes).substr(i, 1));
    EXPECT_NE(Read(Http1Parser::ForRequests({}), true, bytes).error, 0)
        << row.what << ", byte by byte";
  }
}

TEST(Http1Parser, HoldsItsLimits) {
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(
      ReadRequest(get + "X: " + std::string(1000, 'x') + "\r\n\r\n", {.max_head_bytes = 500}).error,
      431);
  EXPECT_EQ(ReadRequest(std::string(1000, 'x'), {.max_head_bytes = 500}).error, 431);
  EXPECT_EQ(ReadRequest(get + "A: 1\r\nB: 2\r\n\r\n", {.max_headers = 2}).error, 431);
  EXPECT_EQ(ReadRequest(get + "A: 1\r\n\r\n", {.max_headers = 2}).error, 0);
  EXPECT_EQ(ReadRequest("GET /" + std::string(100, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n",
                        {.max_target_bytes = 50})
                .error,
            414);
  EXPECT_EQ(ReadRequest(get + "Content-Length: 11\r\n\r\n", {.max_body_bytes = 10}).error, 413);
  EXPECT_EQ(ReadRequest(get + "Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n",
                        {.max_body_bytes = 10})
                .error,
            413);
  EXPECT_EQ(ReadRequest(get + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " +
                        std::string(9000, 'x') + "\r\n\r\n")
                .error,
            431);
}

TEST(Http1Parser, KnowsWhetherTheConnectionGoesOn) {
  const auto keeps = [](std::string_view bytes) {
    Http1Parser parser = Http1Parser::ForRequests({});
    EXPECT_EQ(parser.Next(bytes), Event::kHead);
    return parser.keep_alive();
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

TEST(Http1Parser, ReadsResponses) {
  EXPECT_EQ(ReadResponse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").messages,
            "200 [Content-Length=2,] hi|");
  EXPECT_EQ(
      ReadResponse("HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 404\r\nContent-Length: 0\r\n\r\n")
          .messages,
      "404 [Content-Length=0,] |");
  EXPECT_EQ(ReadResponse("HTTP/1.1 204 No Content\r\n\r\n").messages, "204 [] |");
  EXPECT_EQ(
      ReadResponse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
          .messages,
      "200 [Transfer-Encoding=chunked,] hi|");
  EXPECT_EQ(ReadResponse("HTTP/1.0 200 OK\r\n\r\nuntil the end", true).messages,
            "200 [] until the end|");
}

TEST(Http1Parser, ResponsesSplitAnywhereReadTheSame) {
  const std::string_view text =
      "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
      "chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n"
      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 500 x\r\n\r\nrest";
  const Reading whole = ReadResponse(text, true);
  EXPECT_EQ(whole.messages,
            "200 [Transfer-Encoding=chunked,] hi|200 [Content-Length=3,] abc|500 [] rest|");
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(
        Read(Http1Parser::ForResponses({}), false, {text.substr(0, cut), text.substr(cut)}, true),
        whole);
  }
}

TEST(Http1Parser, AnswersToHeadHaveNoContent) {
  Http1Parser parser = Http1Parser::ForResponses({});
  parser.Reset(/*answers_head=*/true);
  std::string_view bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
  EXPECT_EQ(parser.Next(bytes), Event::kHead);
  EXPECT_EQ(parser.Next(bytes), Event::kEnd);
  EXPECT_TRUE(parser.keep_alive());
}

TEST(Http1Parser, RefusesResponsesThatCouldBeReadTwoWays) {
  for (const std::string bytes :
       {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 999 x\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n", "\r\n\r\n", "garbage\r\n"}) {
    EXPECT_NE(ReadResponse(bytes, true).error, 0) << bytes;
  }
}

TEST(Http1Parser, ACloseInsideAMessageIsAnError) {
  EXPECT_NE(ReadResponse("HTTP/1.1 200 OK\r\nContent-Le", true).error, 0);
  EXPECT_NE(ReadResponse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", true).error, 0);
  EXPECT_NE(
      ReadResponse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", true).error,
      0);
}

}  // namespace
}  // namespace warmpath::net
