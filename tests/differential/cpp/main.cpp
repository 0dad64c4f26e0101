// Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <json/json.h>
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>
#include <simdjson.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

using nlohmann::json;
using Answer = json;

static const Answer OTHER = {{"other", true}};

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

int main() {
  const std::vector<std::pair<std::string, std::function<Answer(const std::string &)>>> parsers = {
      {"nlohmann", by_nlohmann},
      {"nlohmann, value()", by_nlohmann_value},
      {"rapidjson", by_rapidjson<rapidjson::kParseDefaultFlags>},
      {"rapidjson, validating UTF-8", by_rapidjson<rapidjson::kParseValidateEncodingFlag>},
      {"rapidjson, by strcmp", by_rapidjson_strcmp},
      {"simdjson", by_simdjson},
      {"simdjson, on demand", by_simdjson_on_demand},
      {"cJSON", [](const std::string &body) { return by_cjson(body, false); }},
      {"cJSON, letter case counts", [](const std::string &body) { return by_cjson(body, true); }},
      {"jsoncpp", by_jsoncpp},
  };
  json names = json::array();
  for (auto &parser : parsers) names.push_back(parser.first);
  std::puts(names.dump().c_str());
  std::fflush(stdout);
  std::string method, type, path, body;
  while (field(method) && field(type) && field(path) && field(body)) {
    json answers = json::array();
    for (auto &parser : parsers) {
      try {
        answers.push_back(parser.second(body));
      } catch (const std::exception &) {
        answers.push_back(nullptr);
      }
    }
    std::puts(answers.dump(-1, ' ', true, json::error_handler_t::replace).c_str());
    std::fflush(stdout);
  }
}
