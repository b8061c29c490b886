#include "net/server_exchange.h"

#include <utility>

#include "net/loop_impl.h"
#include "net/server_connection.h"

namespace warmpath::net {

ServerExchange::ServerExchange(ServerConnection& connection, HttpRequest request, size_t high_water)
    : connection_(&connection),
      loop_(connection.loop()),
      request_(std::move(request)),
      high_water_(high_water),
      has_content_(connection.has_content()) {}

bool ServerExchange::closed() const {
  return connection_ == nullptr || connection_->ended();
}

void ServerExchange::Respond(int status, Headers headers, std::string body) {
  if (!closed()) connection_->Respond(status, headers, body);
}

void ServerExchange::Begin(int status, Headers headers) {
  if (!closed()) connection_->Begin(status, headers);
}

size_t ServerExchange::Write(std::string_view bytes) {
  return closed() ? 0 : connection_->Write(bytes);
}

void ServerExchange::End() {
  if (!closed()) connection_->End();
}

void ServerExchange::Abort() {
  if (!closed()) connection_->Abort();
}

void ServerExchange::OnClose(std::function<void()> gone) {
  if (connection_ != nullptr) {
    on_close_ = std::move(gone);
  } else if (gone_) {
    // Gone between the request and this call: told from the loop, as always.
    loop_.impl().reactor.Defer(std::move(gone));
  }
}

void ServerExchange::OnDrain(std::function<void()> drained) {
  if (connection_ != nullptr) on_drain_ = std::move(drained);
}

void ServerExchange::Detach(bool gone) {
  connection_ = nullptr;
  gone_ = gone;
  // Callbacks usually hold this exchange: dropping them here ends that cycle.
  const auto on_close = std::exchange(on_close_, nullptr);
  on_drain_ = nullptr;
  on_data_ = nullptr;
  on_body_end_ = nullptr;
  if (gone && on_close) on_close();
}

void ServerExchange::Drained() {
  const auto drained = on_drain_;
  if (drained) drained();
}

void ServerExchange::ReadBody(std::function<void(std::string_view)> on_data,
                              std::function<void()> on_end) {
  if (closed()) return;
  on_data_ = std::move(on_data);
  on_body_end_ = std::move(on_end);
  connection_->ResumeBody();
}

void ServerExchange::PauseBody() {
  if (!closed()) connection_->PauseBody();
}

void ServerExchange::ResumeBody() {
  if (!closed()) connection_->ResumeBody();
}

void ServerExchange::BodyData(std::string_view bytes) {
  // The handler may end the exchange, which must not destroy what is running.
  auto on_data = std::move(on_data_);
  if (on_data) on_data(bytes);
  if (connection_ != nullptr) on_data_ = std::move(on_data);
}

void ServerExchange::BodyEnd() {
  on_data_ = nullptr;
  if (const auto on_end = std::exchange(on_body_end_, nullptr)) on_end();
}

}  // namespace warmpath::net
