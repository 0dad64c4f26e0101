// Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <json/json.h>
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>
#include <simdjson.h>
#if __has_include(<httplib.h>)
#include <httplib.h>
#endif

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

using nlohmann::json;
using Answer = json;

static const Answer OTHER = {{"other", true}};

struct Case {
  std::string method, type, path, body;
};
using Read = std::function<Answer(const Case &)>;

static Read of_body(Answer (*read)(const std::string &)) {
  return [read](const Case &one) { return read(one.body); };
}

static bool field(std::string &octets) {
  uint32_t size;
  if (std::fread(&size, 4, 1, stdin) != 1) return false;
  size = ntohl(size);
  octets.clear();
  if (size == UINT32_MAX || size == 0) return true;
  octets.resize(size);
  return std::fread(octets.data(), 1, size, stdin) == size;
}

static Answer by_nlohmann(const std::string &body) {
  json document = json::parse(body);
  if (!document.is_object() || !document.contains("model")) return nullptr;
  return document["model"].is_string() ? Answer(document["model"]) : document["model"].is_null() ? Answer() : OTHER;
}

// The way of many servers: value() with a default.
static Answer by_nlohmann_value(const std::string &body) {
  std::string found = json::parse(body).value("model", "");
  return found.empty() ? Answer() : Answer(found);
}

template <unsigned flags>
static Answer by_rapidjson(const std::string &body) {
  rapidjson::Document document;
  document.Parse<flags>(body.data(), body.size());
  if (document.HasParseError() || !document.IsObject()) return nullptr;
  auto found = document.FindMember("model");
  if (found == document.MemberEnd() || found->value.IsNull()) return nullptr;
  if (!found->value.IsString()) return OTHER;
  return std::string(found->value.GetString(), found->value.GetStringLength());
}

// Names compared as C strings, as code that goes over the members does it.
static Answer by_rapidjson_strcmp(const std::string &body) {
  rapidjson::Document document;
  document.Parse(body.data(), body.size());
  if (document.HasParseError() || !document.IsObject()) return nullptr;
  Answer answer;
  for (auto &member : document.GetObject())
    if (!std::strcmp(member.name.GetString(), "model") && member.value.IsString()) answer = member.value.GetString();
  return answer;
}

static Answer by_simdjson(const std::string &body) {
  simdjson::dom::parser parser;
  simdjson::padded_string padded(body);
  std::string_view found;
  if (parser.parse(padded)["model"].get_string().get(found)) return nullptr;
  return std::string(found);
}

static Answer by_simdjson_on_demand(const std::string &body) {
  simdjson::ondemand::parser parser;
  simdjson::padded_string padded(body);
  simdjson::ondemand::document document;
  std::string_view found;
  if (parser.iterate(padded).get(document)) return nullptr;
  if (document.find_field_unordered("model").get_string().get(found)) return nullptr;
  return std::string(found);
}

static Answer by_cjson(const std::string &body, bool exact) {
  std::unique_ptr<cJSON, decltype(&cJSON_Delete)> document(cJSON_ParseWithLength(body.data(), body.size()), cJSON_Delete);
  if (!document) return nullptr;
  cJSON *found = exact ? cJSON_GetObjectItemCaseSensitive(document.get(), "model")
                       : cJSON_GetObjectItem(document.get(), "model");
  if (!found || cJSON_IsNull(found)) return nullptr;
  return cJSON_IsString(found) ? Answer(found->valuestring) : OTHER;
}

static Answer by_jsoncpp(const std::string &body) {
  Json::Value document;
  Json::CharReaderBuilder builder;
  std::unique_ptr<Json::CharReader> reader(builder.newCharReader());
  if (!reader->parse(body.data(), body.data() + body.size(), &document, nullptr) || !document.isObject()) return nullptr;
  Json::Value found = document["model"];
  return found.isString() ? Answer(found.asString()) : found.isNull() ? Answer() : OTHER;
}

#if defined(CPPHTTPLIB_VERSION_NUM)
// As the servers of llama.cpp and whisper.cpp read forms; the way that has MultipartFormData (from 0.23 on).
class ByHttplib {
 public:
  ByHttplib() {
    auto answer = [](const httplib::Request &request, httplib::Response &response) {
      Answer found;
      if (request.form.has_field("model"))
        found = request.form.get_field_count("model") == 1 ? Answer(request.form.get_field("model")) : OTHER;
      else if (request.has_param("model"))
        found = request.get_param_value("model");
      response.set_content(found.dump(-1, ' ', true, json::error_handler_t::replace), "application/json");
    };
    server.Post("/.*", answer).Put("/.*", answer).Patch("/.*", answer);
    server.set_tcp_nodelay(true);
    port = server.bind_to_any_port("127.0.0.1");
    serving = std::thread([this] { server.listen_after_bind(); });
    client = std::make_unique<httplib::Client>("127.0.0.1", port);
    client->set_tcp_nodelay(true);
  }

  ~ByHttplib() {
    client.reset();
    server.stop();
    serving.join();
  }

  Answer read(const Case &one) {
    httplib::Request request;
    request.method = one.method;
    request.path = "/" + (one.path.find('?') == std::string::npos ? "" : one.path.substr(one.path.find('?')));
    // A field's value has no blanks at its ends.
    auto begin = one.type.find_first_not_of(" \t");
    if (begin != std::string::npos)
      request.headers = {{"Content-Type", one.type.substr(begin, one.type.find_last_not_of(" \t") + 1 - begin)}};
    request.body = one.body;
    auto answer = client->send(request);
    return answer && answer->status == 200 ? json::parse(answer->body) : Answer();
  }

 private:
  httplib::Server server;
  int port;
  std::thread serving;
  std::unique_ptr<httplib::Client> client;
};
#endif

int main() {
  std::vector<std::pair<std::string, Read>> parsers = {
      {"nlohmann", of_body(by_nlohmann)},
      {"nlohmann, value()", of_body(by_nlohmann_value)},
      {"rapidjson", of_body(by_rapidjson<rapidjson::kParseDefaultFlags>)},
      {"rapidjson, validating UTF-8", of_body(by_rapidjson<rapidjson::kParseValidateEncodingFlag>)},
      {"rapidjson, by strcmp", of_body(by_rapidjson_strcmp)},
      {"simdjson", of_body(by_simdjson)},
      {"simdjson, on demand", of_body(by_simdjson_on_demand)},
      {"cJSON", [](const Case &one) { return by_cjson(one.body, false); }},
      {"cJSON, letter case counts", [](const Case &one) { return by_cjson(one.body, true); }},
      {"jsoncpp", of_body(by_jsoncpp)},
  };
#if defined(CPPHTTPLIB_VERSION_NUM)
  ByHttplib httplib;
  parsers.push_back({"cpp-httplib", [&httplib](const Case &one) { return httplib.read(one); }});
#endif
  json names = json::array();
  for (auto &parser : parsers) names.push_back(parser.first);
  std::puts(names.dump().c_str());
  std::fflush(stdout);
  Case one;
  while (field(one.method) && field(one.type) && field(one.path) && field(one.body)) {
    json answers = json::array();
    for (auto &parser : parsers) {
      try {
        answers.push_back(parser.second(one));
      } catch (const std::exception &) {
        answers.push_back(nullptr);
      }
    }
    std::puts(answers.dump(-1, ' ', true, json::error_handler_t::replace).c_str());
    std::fflush(stdout);
  }
}
