// Internal to net: one request of a server connection, as its handler sees it. Loop-confined;
// outlives its connection when the handler keeps it.
#pragma once

#include <functional>
#include <string_view>

#include "net/http_server.h"

namespace warmpath::net {

class ServerConnection;

class ServerExchange final : public HttpExchange {
 public:
  ServerExchange(ServerConnection& connection, HttpRequest request, size_t high_water);

  HttpRequest& request() override { return request_; }
  Loop& loop() override { return loop_; }
  void Respond(int status, Headers headers, std::string body) override;
  void Begin(int status, Headers headers) override;
  size_t Write(std::string_view bytes) override;
  void End() override;
  void Abort() override;
  size_t high_water() const override { return high_water_; }
  bool closed() const override;
  void OnClose(std::function<void()> gone) override;
  void OnDrain(std::function<void()> drained) override;
  bool has_content() const override { return has_content_; }
  void ReadBody(std::function<void(std::string_view)> on_data,
                std::function<void()> on_end) override;
  void PauseBody() override;
  void ResumeBody() override;

  // By the connection: it is done with this exchange. `gone`: before the answer was complete.
  void Detach(bool gone);
  void Drained();
  void BodyData(std::string_view bytes);
  void BodyEnd();

 private:
  ServerConnection* connection_;  // null once detached
  Loop& loop_;
  HttpRequest request_;
  const size_t high_water_;
  const bool has_content_;
  bool gone_ = false;
  std::function<void()> on_close_;
  std::function<void()> on_drain_;
  std::function<void(std::string_view)> on_data_;
  std::function<void()> on_body_end_;
};

}  // namespace warmpath::net
