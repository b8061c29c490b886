#include "net/http.h"

#include <gtest/gtest.h>

#include "net/http1_writer.h"
#include "net/percent.h"

namespace warmpath::net {
namespace {

TEST(Headers, CompareNamesWithoutCase) {
  Headers headers{{"X-A", "1"}, {"x-a", "2"}, {"B", "3"}};
  EXPECT_EQ(headers.Get("X-a"), "1");
  EXPECT_EQ(headers.Count("x-A"), 2u);
  headers.Set("x-A", "4");
  EXPECT_EQ(headers.Count("X-A"), 1u);
  EXPECT_EQ(headers.Get("X-A"), "4");
  headers.Remove("b");
  EXPECT_FALSE(headers.Get("B"));
}

TEST(RemoveHopByHop, TakesTheListedAndTheNamed) {
  Headers headers{{"Connection", "close, X-Private"},
                  {"X-Private", "1"},
                  {"Keep-Alive", "5"},
                  {"TE", "trailers"},
                  {"Transfer-Encoding", "chunked"},
                  {"Upgrade", "h2c"},
                  {"Accept", "*/*"}};
  RemoveHopByHop(headers);
  ASSERT_EQ(headers.fields().size(), 1u);
  EXPECT_EQ(headers.fields()[0].first, "Accept");
}

TEST(HttpRequest, SplitsTheTarget) {
  HttpRequest request;
  request.target = "/a/b?x=1&y=2";
  EXPECT_EQ(request.path(), "/a/b");
  EXPECT_EQ(request.query(), "x=1&y=2");
  request.target = "/a";
  EXPECT_EQ(request.query(), "");
}

TEST(QueryParameter, DecodesKeysAndValues) {
  EXPECT_EQ(QueryParameter("a=1&path=%2Fv1%2fx+y", "path"), "/v1/x y");
  EXPECT_EQ(QueryParameter("a=1&b", "b"), "");
  EXPECT_EQ(QueryParameter("a=%zz%2", "a"), "%zz%2");
  EXPECT_FALSE(QueryParameter("a=1", "b"));
}

TEST(PercentEncode, LeavesOnlyWhatAUrlMayHoldAnywhere) {
  EXPECT_EQ(PercentEncode("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(PercentEncode("refs/pr/1?x=a b&+%\xff"), "refs%2Fpr%2F1%3Fx%3Da%20b%26%2B%25%FF");
  EXPECT_EQ(QueryParameter("v=" + PercentEncode("a+b c&d=%41"), "v"), "a+b c&d=%41");
}

TEST(Writer, LeavesOutFieldsThatWouldSplitTheHead) {
  std::string out;
  AppendResponseHead(
      out, 200,
      {{"X", "a\r\nSet-Cookie: b"}, {"Bad Name", "x"}, {"Content-Length", "9"}, {"Y", "ok"}},
      {.content_length = 0, .chunked = false, .connection = "close", .server_name = ""});
  EXPECT_EQ(out, "HTTP/1.1 200 OK\r\nY: ok\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

TEST(Writer, RequestsCarryHostAndLength) {
  std::string out;
  HttpRequest request;
  request.method = "POST";
  request.target = "/v1/x";
  request.headers = {{"Transfer-Encoding", "chunked"}, {"Content-Length", "7"}};
  AppendRequestHead(out, request, 3, "/base", "h:80");
  EXPECT_EQ(out, "POST /base/v1/x HTTP/1.1\r\nHost: h:80\r\nContent-Length: 3\r\n\r\n");
}

}  // namespace
}  // namespace warmpath::net
