#include "k8s/kubeconfig.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <optional>

#include "codec/yaml.h"

namespace warmpath::k8s {
namespace {

using codec::YamlNode;

struct Document {
  const KubeconfigFile* file = nullptr;
  YamlNode root;
};

// One named entry of a list, and where it stands.
struct Entry {
  const KubeconfigFile* file = nullptr;
  std::string what;  // context "x"
  const YamlNode* fields = nullptr;

  tl::unexpected<Error> Wrong(int line, const std::string& why) const {
    return Fail(Code::kInvalidArgument,
                line > 0 ? fmt::format("{}:{}: {}: {}", file->path, line, what, why)
                         : fmt::format("{}: {}: {}", file->path, what, why));
  }
  // "" when it is not there.
  Result<std::string> Text(std::string_view key) const {
    const YamlNode* node = fields->Find(key);
    if (node == nullptr || node->is_null()) return std::string();
    if (!node->is_scalar()) return Wrong(node->line, fmt::format("{} must be a text", key));
    return node->scalar;
  }
  Result<bool> Flag(std::string_view key) const {
    const YamlNode* node = fields->Find(key);
    if (node == nullptr || node->is_null()) return false;
    const auto value = node->AsBool();
    if (!value) return Wrong(node->line, fmt::format("{} must be true or false", key));
    return *value;
  }
  Result<std::string> Path(std::string_view key) const {
    WP_TRY(std::string path, Text(key));
    if (path.empty() || path.starts_with('/')) return path;
    const size_t slash = file->path.rfind('/');
    return slash == file->path.npos ? path : file->path.substr(0, slash + 1) + path;
  }
  // The base64 text of `key`-data or else the file of `key`.
  Status Material(const std::string& key, std::string& pem, std::string& path) const {
    WP_TRY(const std::string data, Text(key + "-data"));
    if (data.empty()) {
      WP_TRY(path, Path(key));
      return {};
    }
    auto decoded = DecodeBase64(data);
    if (!decoded) {
      return Wrong(fields->Find(key + "-data")->line,
                   fmt::format("{}-data: {}", key, decoded.error().message));
    }
    pem = std::move(*decoded);
    return {};
  }
  // Present and not just empty.
  const YamlNode* Given(std::string_view key) const {
    const YamlNode* node = fields->Find(key);
    if (node == nullptr || node->is_null()) return nullptr;
    if (node->is_scalar() && node->scalar.empty()) return nullptr;
    if (node->is_map() && node->members.empty()) return nullptr;
    if (node->is_sequence() && node->items.empty()) return nullptr;
    return node;
  }
};

// The entry of that name in `list`, whose fields stand under `field`.
Result<Entry> FindEntry(const std::vector<Document>& documents, const char* list, const char* field,
                        const std::string& name) {
  std::vector<std::string> known;
  for (const Document& document : documents) {
    const YamlNode* entries = document.root.Find(list);
    if (entries == nullptr || entries->is_null()) continue;
    if (!entries->is_sequence()) {
      return Fail(Code::kInvalidArgument, fmt::format("{}:{}: {} must be a list",
                                                      document.file->path, entries->line, list));
    }
    for (const YamlNode& entry : entries->items) {
      const YamlNode* own_name = entry.Find("name");
      if (own_name == nullptr || !own_name->is_scalar()) continue;
      if (own_name->scalar != name) {
        known.push_back(own_name->scalar);
        continue;
      }
      Entry found{document.file, fmt::format("{} \"{}\"", field, name), entry.Find(field)};
      if (found.fields == nullptr || !found.fields->is_map()) {
        return found.Wrong(entry.line, fmt::format("{} must hold fields", field));
      }
      return found;
    }
  }
  return Fail(
      Code::kInvalidArgument,
      fmt::format("{}: no {} \"{}\" among {} ({})", documents.front().file->path, field, name, list,
                  known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", "))));
}

Status ReadServer(const Entry& cluster, ClusterConfig& config) {
  WP_TRY(const std::string server, cluster.Text("server"));
  if (server.empty()) return cluster.Wrong(cluster.fields->line, "server is missing");
  auto url = net::ParseUrl(server);
  if (!url) {
    return cluster.Wrong(cluster.fields->Find("server")->line, "server: " + url.error().message);
  }
  config.server = std::move(*url);
  if (const YamlNode* proxy = cluster.Given("proxy-url")) {
    return cluster.Wrong(proxy->line, "proxy-url is not supported: the API is asked directly");
  }
  WP_RETURN_IF_ERROR(cluster.Material("certificate-authority", config.ca_pem, config.ca_file));
  WP_TRY(const bool insecure, cluster.Flag("insecure-skip-tls-verify"));
  if (insecure && !(config.ca_pem.empty() && config.ca_file.empty())) {
    return cluster.Wrong(cluster.fields->Find("insecure-skip-tls-verify")->line,
                         "insecure-skip-tls-verify together with certificate-authority");
  }
  config.verify = !insecure;
  WP_TRY(config.tls_server_name, cluster.Text("tls-server-name"));
  return {};
}

Status ReadUser(const Entry& user, ClusterConfig& config) {
  constexpr std::array<std::pair<const char*, const char*>, 7> kRefused = {{
      {"exec", "credentials that a program gives"},
      {"auth-provider", "auth providers"},
      {"username", "basic authentication"},
      {"password", "basic authentication"},
      {"as", "acting as another user"},
      {"as-uid", "acting as another user"},
      {"as-groups", "acting as another user"},
  }};
  for (const auto& [key, what] : kRefused) {
    if (const YamlNode* node = user.Given(key)) {
      return user.Wrong(node->line,
                        fmt::format("{} is not supported ({}); give a token, a tokenFile or a "
                                    "client certificate",
                                    key, what));
    }
  }
  WP_TRY(config.token, user.Text("token"));
  WP_TRY(config.token_file, user.Path("tokenFile"));
  WP_RETURN_IF_ERROR(user.Material("client-certificate", config.cert_pem, config.cert_file));
  WP_RETURN_IF_ERROR(user.Material("client-key", config.key_pem, config.key_file));
  const bool certificate = !config.cert_pem.empty() || !config.cert_file.empty();
  const bool key = !config.key_pem.empty() || !config.key_file.empty();
  if (certificate != key) {
    return user.Wrong(user.fields->line, certificate ? "client-certificate without client-key"
                                                     : "client-key without client-certificate");
  }
  return {};
}

int Base64Value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

}  // namespace

Result<std::string> DecodeBase64(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int held = 0, digits = 0, padding = 0;
  for (const char c : text) {
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    const int value = Base64Value(c);
    if (value < 0 || padding > 0) return Fail(Code::kInvalidArgument, "not base64");
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    ++digits;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>(bits >> held & 0xff);
    }
  }
  if (padding > 2 || (digits + padding) % 4 != 0) return Fail(Code::kInvalidArgument, "not base64");
  return out;
}

Result<ClusterConfig> ReadKubeconfig(const std::vector<KubeconfigFile>& files) {
  std::vector<Document> documents;
  std::string current, paths;
  for (const KubeconfigFile& file : files) {
    paths += (paths.empty() ? "" : ", ") + file.path;
    auto root = codec::ParseYaml(file.text);
    if (!root) return Fail(root.error(), file.path);
    if (!root->is_map() && !root->is_null()) {
      return Fail(Code::kInvalidArgument, file.path + ": not a kubeconfig");
    }
    const YamlNode* context = root->Find("current-context");
    if (current.empty() && context != nullptr && context->is_scalar()) current = context->scalar;
    documents.push_back({&file, std::move(*root)});
  }
  if (current.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: current-context is not set", paths));
  }
  WP_TRY(const Entry context, FindEntry(documents, "contexts", "context", current));
  ClusterConfig config;
  config.source = fmt::format("{}, context \"{}\"", context.file->path, current);
  WP_TRY(config.ns, context.Text("namespace"));
  WP_TRY(const std::string cluster_name, context.Text("cluster"));
  WP_TRY(const std::string user_name, context.Text("user"));
  const auto of_context = [&](Error error) {
    error.message += fmt::format(" (of context \"{}\")", current);
    return tl::unexpected(std::move(error));
  };
  auto cluster = FindEntry(documents, "clusters", "cluster", cluster_name);
  if (!cluster) return of_context(cluster.error());
  if (auto read = ReadServer(*cluster, config); !read) return of_context(read.error());
  if (user_name.empty()) return config;
  auto user = FindEntry(documents, "users", "user", user_name);
  if (!user) return of_context(user.error());
  if (auto read = ReadUser(*user, config); !read) return of_context(read.error());
  return config;
}

}  // namespace warmpath::k8s
