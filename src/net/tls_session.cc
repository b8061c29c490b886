#include "net/tls_session.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace warmpath::net {
namespace {

constexpr size_t kMaxEarlyBytes = 1 << 20;
constexpr size_t kRecordBytes = 16 << 10;
constexpr size_t kSmallRead = 512;
// Key updates a peer may send, which it may have answered: what others tolerate too, and one more
// for so much plaintext.
constexpr int kMaxIdleMessages = 16;
constexpr size_t kPlaintextPerMessage = 16 << 10;

std::string PlainReason(unsigned long code, long verify_result) {
  const int reason = ERR_GET_REASON(code);
  if (reason >= SSL_AD_REASON_OFFSET) {
    return fmt::format("the peer refused: {}",
                       SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
  }
  switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return fmt::format("the peer's certificate is not accepted: {}",
                         X509_verify_cert_error_string(verify_result));
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return "the peer presented no certificate";
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
      return "the peer speaks plain HTTP, not TLS";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
      return "the peer does not speak TLS";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
      return "the peer offers only TLS versions that are not allowed here";
    case SSL_R_NO_SHARED_CIPHER:
      return "no cipher suite in common with the peer";
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return "no application protocol (ALPN) in common with the peer";
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
      return "a record was damaged on its way";
    default:
      break;
  }
  const char* text = ERR_reason_error_string(code);
  return text != nullptr ? text : "the session broke off";
}

// Key updates carry nothing and may demand an answer.
void CountMessage(int write, int, int type, const void* bytes, size_t size, SSL*, void* count) {
  if (write != 0 || type != SSL3_RT_HANDSHAKE || size == 0) return;
  if (*static_cast<const unsigned char*>(bytes) == SSL3_MT_KEY_UPDATE) ++*static_cast<int*>(count);
}

bool IsIpAddress(const std::string& name) {
  ASN1_OCTET_STRING* ip = a2i_IPADDRESS(name.c_str());
  ASN1_OCTET_STRING_free(ip);
  return ip != nullptr;
}

}  // namespace

struct OpenSslSession::Memory {
  static int Read(BIO* bio, char* to, size_t size, size_t* got) {
    BIO_clear_retry_flags(bio);
    std::string_view& input = static_cast<OpenSslSession*>(BIO_get_data(bio))->input_;
    if (input.empty()) {
      BIO_set_retry_read(bio);
      return 0;
    }
    *got = std::min(size, input.size());
    std::memcpy(to, input.data(), *got);
    input.remove_prefix(*got);
    return 1;
  }

  static int Write(BIO* bio, const char* from, size_t size, size_t* written) {
    BIO_clear_retry_flags(bio);
    static_cast<OpenSslSession*>(BIO_get_data(bio))->output_.append(from, size);
    *written = size;
    return 1;
  }

  static long Control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static BIO* New(OpenSslSession* session) {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "session memory");
      WP_CHECK(made != nullptr);
      BIO_meth_set_read_ex(made, Read);
      BIO_meth_set_write_ex(made, Write);
      BIO_meth_set_ctrl(made, Control);
      return made;
    }();
    BIO* bio = BIO_new(method);
    if (bio == nullptr) return nullptr;
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    return bio;
  }
};

OpenSslSession::OpenSslSession(std::shared_ptr<const TlsMaterial> material,
                               const std::string& server_name)
    : material_(std::move(material)), ssl_(SSL_new(material_->context.get())) {
  ERR_clear_error();
  if (!ssl_ || !Begin(server_name)) {
    (void)EndWith(Code::kInternal, "cannot begin a TLS session: " + OpenSslReason());
  } else if (!material_->server && !failed_) {
    (void)Handshake();  // a failure is told by the next call
  }
}

OpenSslSession::~OpenSslSession() = default;

bool OpenSslSession::Begin(const std::string& server_name) {
  BIO* bio = Memory::New(this);
  if (bio == nullptr) return false;
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_msg_callback(ssl_.get(), CountMessage);
  SSL_set_msg_callback_arg(ssl_.get(), &idle_messages_);
  if (material_->server) {
    SSL_set_accept_state(ssl_.get());
    return true;
  }
  SSL_set_connect_state(ssl_.get());
  const bool is_ip = IsIpAddress(server_name);
  ERR_clear_error();
  if (!server_name.empty() && !is_ip &&
      SSL_set_tlsext_host_name(ssl_.get(), server_name.c_str()) != 1) {
    return false;
  }
  if (!material_->verify) return true;
  if (server_name.empty()) {
    (void)EndWith(Code::kInvalidArgument, "no server name to verify the certificate with");
    return true;
  }
  X509_VERIFY_PARAM* expected = SSL_get0_param(ssl_.get());
  X509_VERIFY_PARAM_set_hostflags(
      expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return (is_ip
              ? X509_VERIFY_PARAM_set1_ip_asc(expected, server_name.c_str())
              : X509_VERIFY_PARAM_set1_host(expected, server_name.data(), server_name.size())) == 1;
}

Status OpenSslSession::Feed(std::string_view ciphertext, std::string& plaintext) {
  if (failed_) return tl::unexpected(error_);
  if (peer_closed_) return {};
  ERR_clear_error();
  input_ = ciphertext;
  Status status = established_ ? Status() : Handshake();
  if (status && established_) status = ReadAll(plaintext);
  input_ = {};
  return status;
}

Status OpenSslSession::Handshake() {
  const int result = SSL_do_handshake(ssl_.get());
  if (result != 1) return Broken(result);
  established_ = true;
  const std::string early = std::exchange(early_, {});
  return Write(early);
}

Status OpenSslSession::ReadAll(std::string& plaintext) {
  while (true) {
    const size_t before = plaintext.size();
    const size_t expected = std::max(input_.size(), static_cast<size_t>(SSL_pending(ssl_.get())));
    plaintext.resize(before + std::clamp(expected, kSmallRead, kRecordBytes));
    size_t got = 0;
    const int result =
        SSL_read_ex(ssl_.get(), plaintext.data() + before, plaintext.size() - before, &got);
    plaintext.resize(before + (result == 1 ? got : 0));
    if (idle_messages_ > kMaxIdleMessages) {
      return EndWith(Code::kOutOfBounds, "the peer sends key updates without end");
    }
    if (result != 1) return Broken(result);
    plaintext_ += got;
    const size_t earned =
        std::exchange(plaintext_, plaintext_ % kPlaintextPerMessage) / kPlaintextPerMessage;
    idle_messages_ = std::max(0, idle_messages_ - static_cast<int>(earned));
  }
}

Status OpenSslSession::Broken(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return {};
    case SSL_ERROR_ZERO_RETURN:
      peer_closed_ = true;
      return {};
    default: {
      const unsigned long code = ERR_get_error();
      ERR_clear_error();
      return EndWith(Code::kUnavailable, PlainReason(code, SSL_get_verify_result(ssl_.get())));
    }
  }
}

tl::unexpected<Error> OpenSslSession::EndWith(Code code, std::string why) {
  failed_ = true;
  established_ = false;
  early_ = std::string();
  error_ = {code, std::move(why)};
  return tl::unexpected(error_);
}

Status OpenSslSession::Write(std::string_view plaintext) {
  if (failed_) return tl::unexpected(error_);
  if (closed_) return Fail(Code::kCancelled, "the session is closed");
  if (plaintext.empty()) return {};
  if (!established_) {
    if (plaintext.size() > kMaxEarlyBytes - early_.size()) {
      return Fail(Code::kOutOfBounds, "too much is written before the TLS handshake is done");
    }
    early_.append(plaintext);
    return {};
  }
  ERR_clear_error();
  size_t written = 0;
  // Our memory takes everything, so this writes all or fails.
  const int result = SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &written);
  if (result == 1 && written == plaintext.size()) return {};
  return EndWith(Code::kInternal, PlainReason(ERR_get_error(), SSL_get_verify_result(ssl_.get())));
}

void OpenSslSession::Close() {
  if (std::exchange(closed_, true) || !established_) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void OpenSslSession::TakeOutput(std::string& ciphertext) {
  if (ciphertext.empty()) {
    ciphertext.swap(output_);
  } else {
    ciphertext.append(output_);
  }
  output_.clear();
}

std::string_view OpenSslSession::protocol() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  if (ssl_) SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

}  // namespace warmpath::net
