// Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"

	"github.com/buger/jsonparser"
	"github.com/bytedance/sonic"
	"github.com/gin-gonic/gin"
	goccy "github.com/goccy/go-json"
	jsoniter "github.com/json-iterator/go"
	"github.com/labstack/echo/v4"
	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"
)

type named struct {
	Model any `json:"model"`
}

type namedText struct {
	Model string `json:"model" form:"model"`
}

type testCase struct {
	method      string
	contentType []byte
	hasType     bool
	path        []byte
	body        []byte
}

func field(input io.Reader) ([]byte, bool, error) {
	var size uint32
	if err := binary.Read(input, binary.BigEndian, &size); err != nil {
		return nil, false, err
	}
	if size == 0xFFFFFFFF {
		return nil, false, nil
	}
	octets := make([]byte, size)
	_, err := io.ReadFull(input, octets)
	return octets, true, err
}

func (c testCase) request() *http.Request {
	request := httptest.NewRequest(c.method, "/", bytes.NewReader(c.body))
	if target, err := url.ParseRequestURI(string(c.path)); err == nil {
		request.URL = target
	}
	if c.hasType {
		request.Header.Set("Content-Type", string(c.contentType))
	}
	return request
}

func said(value any) any {
	switch value := value.(type) {
	case nil:
		return nil
	case string:
		return value
	}
	return map[string]any{"other": value}
}

func first(values url.Values) any {
	if found, ok := values["model"]; ok {
		for _, other := range found {
			if other != found[0] {
				return map[string]any{"other": found}
			}
		}
		return found[0] // a query and a form may name the same one
	}
	return nil
}

func parseForm(c testCase) any {
	request := c.request()
	request.ParseForm()
	return first(request.PostForm)
}

func parseMultipartForm(c testCase) any {
	request := c.request()
	request.ParseMultipartForm(1 << 20)
	return first(request.Form)
}

func multipartReader(c testCase) any {
	reader, err := c.request().MultipartReader()
	if err != nil {
		return nil
	}
	var found any
	for {
		part, err := reader.NextPart()
		if err != nil {
			return found
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return found
		}
		if part.FormName() == "model" {
			found = string(content)
		}
	}
}

func structBy(unmarshal func([]byte, any) error) func(testCase) any {
	return func(c testCase) any {
		var found named
		if unmarshal(c.body, &found) != nil {
			return nil
		}
		return said(found.Model)
	}
}

func mapBy(unmarshal func([]byte, any) error) func(testCase) any {
	return func(c testCase) any {
		var found map[string]any
		if unmarshal(c.body, &found) != nil {
			return nil
		}
		return said(found["model"])
	}
}

// As a server that reads one document of a stream does it.
func decoder(c testCase) any {
	var found named
	if json.NewDecoder(bytes.NewReader(c.body)).Decode(&found) != nil {
		return nil
	}
	return said(found.Model)
}

func ginBind(c testCase) any {
	context, _ := gin.CreateTestContext(httptest.NewRecorder())
	context.Request = c.request()
	var found namedText
	if context.ShouldBind(&found) != nil || found.Model == "" {
		return nil
	}
	return found.Model
}

func ginPostForm(c testCase) any {
	context, _ := gin.CreateTestContext(httptest.NewRecorder())
	context.Request = c.request()
	if found, ok := context.GetPostForm("model"); ok {
		return found
	}
	return nil
}

var echoes = echo.New()

func echoBind(c testCase) any {
	context := echoes.NewContext(c.request(), httptest.NewRecorder())
	var found namedText
	if context.Bind(&found) != nil || found.Model == "" {
		return nil
	}
	return found.Model
}

func fast(c testCase) any {
	var request fasthttp.Request
	request.Header.SetMethod(c.method)
	if c.hasType {
		request.Header.SetContentTypeBytes(c.contentType)
	}
	request.SetBody(c.body)
	if form, err := request.MultipartForm(); err == nil {
		return first(form.Value)
	}
	if found := request.PostArgs().Peek("model"); found != nil {
		return string(found)
	}
	return nil
}

// As a server reads one list of the query and a form.
func formValue(c testCase) any {
	if found := c.request().FormValue("model"); found != "" {
		return found
	}
	return nil
}

// As fiber reads it: the query first.
func fastFormValue(c testCase) any {
	var request fasthttp.Request
	request.Header.SetMethod(c.method)
	request.SetRequestURIBytes(c.path)
	if c.hasType {
		request.Header.SetContentTypeBytes(c.contentType)
	}
	request.SetBody(c.body)
	var context fasthttp.RequestCtx
	context.Init(&request, nil, nil)
	if found := context.FormValue("model"); len(found) > 0 {
		return string(found)
	}
	return nil
}

func gjsonGet(c testCase) any {
	if !gjson.ValidBytes(c.body) {
		return nil
	}
	return said(gjson.GetBytes(c.body, "model").Value())
}

func fastjsonGet(c testCase) any {
	document, err := fastjson.ParseBytes(c.body)
	if err != nil || !document.Exists("model") {
		return nil
	}
	found := document.Get("model")
	if text, err := found.StringBytes(); err == nil {
		return string(text)
	}
	return map[string]any{"other": found.String()}
}

func jsonparserGet(c testCase) any {
	if !json.Valid(c.body) {
		return nil // it takes anything in which it finds the key
	}
	if found, err := jsonparser.GetString(c.body, "model"); err == nil {
		return found
	}
	return nil
}

// What a router of paths finds in the place of a model's name.
func routed(handler http.Handler) func(testCase) any {
	return func(c testCase) any {
		head := "POST " + string(c.path) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
		request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			return nil
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != http.StatusOK {
			return nil
		}
		return answer.Body.String()
	}
}

func byServeMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/model/{model}/invoke", func(answer http.ResponseWriter, request *http.Request) {
		io.WriteString(answer, request.PathValue("model"))
	})
	return mux
}

func byGin() http.Handler {
	engine := gin.New()
	engine.POST("/model/:model/invoke", func(c *gin.Context) { c.String(http.StatusOK, "%s", c.Param("model")) })
	return engine
}

// Echo leaves escapes in a name if a slash is escaped: a handler has to undo them.
func byEcho() http.Handler {
	server := echo.New()
	server.POST("/model/:model/invoke", func(c echo.Context) error {
		name := c.Param("model")
		if c.Request().URL.RawPath != "" {
			if undone, err := url.PathUnescape(name); err == nil {
				name = undone
			}
		}
		return c.String(http.StatusOK, name)
	})
	return server
}

// As fasthttp and fiber normalise a path.
func byFasthttpPath(c testCase) any {
	var target fasthttp.URI
	if target.Parse([]byte("x"), c.path) != nil {
		return nil
	}
	found := string(target.Path())
	name, ok := strings.CutPrefix(found, "/model/")
	if !ok {
		return nil
	}
	if name, ok = strings.CutSuffix(name, "/invoke"); !ok || name == "" {
		return nil
	}
	return name
}

func main() {
	gin.SetMode(gin.ReleaseMode)
	iterator := jsoniter.ConfigCompatibleWithStandardLibrary
	parsers := []struct {
		name string
		read func(testCase) any
	}{
		{"net/http ParseForm", parseForm},
		{"net/http ParseMultipartForm", parseMultipartForm},
		{"net/http MultipartReader", multipartReader},
		{"encoding/json, a struct", structBy(json.Unmarshal)},
		{"encoding/json, a map", mapBy(json.Unmarshal)},
		{"encoding/json, a stream", decoder},
		{"goccy/go-json, a struct", structBy(goccy.Unmarshal)},
		{"goccy/go-json, a map", mapBy(goccy.Unmarshal)},
		{"sonic, a struct", structBy(sonic.Unmarshal)},
		{"sonic, a map", mapBy(sonic.Unmarshal)},
		{"jsoniter, a struct", structBy(iterator.Unmarshal)},
		{"jsoniter, a map", mapBy(iterator.Unmarshal)},
		{"gin ShouldBind", ginBind},
		{"gin GetPostForm", ginPostForm},
		{"echo Bind", echoBind},
		{"fasthttp", fast},
		{"fasthttp FormValue", fastFormValue},
		{"net/http FormValue", formValue},
		{"gjson", gjsonGet},
		{"fastjson", fastjsonGet},
		{"jsonparser", jsonparserGet},
		{"net/http ServeMux, a path", routed(byServeMux())},
		{"gin, a path", routed(byGin())},
		{"echo, a path", routed(byEcho())},
		{"fasthttp, a path", byFasthttpPath},
	}
	names := make([]string, len(parsers))
	for index, parser := range parsers {
		names[index] = parser.name
	}
	output := bufio.NewWriter(os.Stdout)
	write := func(value any) {
		line, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		output.Write(append(line, '\n'))
		output.Flush()
	}
	write(names)
	input := bufio.NewReader(os.Stdin)
	for {
		var c testCase
		method, _, err := field(input)
		if err != nil {
			return
		}
		c.method = string(method)
		if c.contentType, c.hasType, err = field(input); err != nil {
			return
		}
		if c.path, _, err = field(input); err != nil {
			return
		}
		if c.body, _, err = field(input); err != nil {
			return
		}
		answers := make([]any, len(parsers))
		for index, parser := range parsers {
			answers[index] = answer(parser.read, c)
		}
		write(answers)
	}
}

// A parser that panics reads no model.
func answer(read func(testCase) any, c testCase) (found any) {
	defer func() {
		if recover() != nil {
			found = nil
		}
	}()
	return read(c)
}
