# Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
require "json"
require "rack"
require "stringio"
require "uri"

Case = Struct.new(:method, :type, :path, :body) do
  def form?
    type && type.downcase.include?("urlencoded")
  end

  def query
    path.split("?", 2)[1] || ""
  end

  def request
    env = {
      "REQUEST_METHOD" => method, "PATH_INFO" => "/", "QUERY_STRING" => query, "CONTENT_LENGTH" => body.bytesize.to_s,
      "rack.input" => StringIO.new(body.dup)
    }
    env["CONTENT_TYPE"] = type if type
    Rack::Request.new(env)
  end
end

def of(document)
  document.is_a?(Hash) ? document["model"] : nil
end

# What reads any text as a form is asked only about what is called one.
PARSERS = {
  "json" => ->(one) { of(JSON.parse(one.body.dup.force_encoding("UTF-8"))) },
  "json, NaN and comments" => ->(one) { of(JSON.parse(one.body.dup.force_encoding("UTF-8"), allow_nan: true)) },
  "rack POST" => ->(one) { one.request.POST["model"] },
  "rack params" => ->(one) { one.request.params["model"] },
  "rack parse_query" => ->(one) { one.form? ? Rack::Utils.parse_query(one.body)["model"] : nil },
  "rack parse_query, semicolons" => ->(one) { one.form? ? Rack::Utils.parse_query(one.body, "&;")["model"] : nil },
  "rack multipart" => ->(one) { of(Rack::Multipart.parse_multipart(one.request.env)) },
  "decode_www_form" => ->(one) { one.form? ? URI.decode_www_form(one.body).to_h["model"] : nil }
}

def said(value)
  return nil if value.nil?
  return { "other" => value.inspect[0, 200].encode("UTF-8", invalid: :replace, undef: :replace) } unless value.is_a?(String)
  text = value.dup.force_encoding("UTF-8")
  text.valid_encoding? ? text : { "other" => text.inspect.encode("UTF-8", invalid: :replace, undef: :replace) }
end

def field
  size = STDIN.read(4)
  exit if size.nil?
  size = size.unpack1("N")
  size == 0xFFFFFFFF ? nil : (size.zero? ? "".b : STDIN.read(size))
end

STDIN.binmode
STDOUT.sync = true
puts JSON.generate(PARSERS.keys)
loop do
  one = Case.new(field, field, field, field)
  found = PARSERS.values.map do |read|
    said(read.call(one))
  rescue StandardError, SystemStackError
    nil
  end
  puts JSON.generate(found)
end
