// A server and a client on loopback: what every caller relies on.
#include <gtest/gtest.h>

#include "net/http_client.h"
#include "net/http_server.h"

namespace warmpath::net {
namespace {

TEST(Loopback, ARequestIsAnswered) {
  LoopGroup loops("test", 2);
  auto server =
      HttpServer::Listen(loops, {"127.0.0.1", 0}, {}, [](std::shared_ptr<HttpExchange> exchange) {
        const HttpRequest& request = exchange->request();
        exchange->Respond(200, {{"X-Path", std::string(request.path())}},
                          request.method + ":" + request.body);
      });
  ASSERT_TRUE(server) << server.error().message;
  loops.Start();
  Url url{.tls = false, .address = (*server)->address(), .base_path = ""};
  for (int i = 0; i < 3; ++i) {
    HttpRequest request;
    request.method = "POST";
    request.target = "/echo?x=1";
    request.body = std::string(300'000, 'x');
    auto response = FetchBlocking(url, request, std::chrono::seconds(5), 1 << 20);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->headers.Get("x-path"), "/echo");
    EXPECT_EQ(response->body, "POST:" + request.body);
  }
  (*server)->Stop(std::chrono::seconds(1));
}

}  // namespace
}  // namespace warmpath::net
