// Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.

import com.alibaba.fastjson2.JSON;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.google.gson.Gson;
import io.netty.buffer.Unpooled;
import io.netty.handler.codec.http.DefaultFullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.multipart.Attribute;
import io.netty.handler.codec.http.multipart.DefaultHttpDataFactory;
import io.netty.handler.codec.http.multipart.HttpPostRequestDecoder;
import io.netty.handler.codec.http.multipart.InterfaceHttpData;
import io.undertow.util.HeaderMap;
import io.undertow.util.Headers;
import io.undertow.util.MultipartParser;
import java.io.BufferedOutputStream;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.tomcat.util.buf.MessageBytes;
import org.apache.tomcat.util.buf.UDecoder;
import org.apache.tomcat.util.http.Parameters;
import org.json.JSONObject;

final class Parsers {
    record Case(byte[] method, byte[] type, byte[] path, byte[] body) {
        String methodText() {
            return new String(method, StandardCharsets.ISO_8859_1);
        }

        String typeText() {
            return type == null ? "" : new String(type, StandardCharsets.ISO_8859_1);
        }

        String text() {
            return new String(body, StandardCharsets.UTF_8);
        }

        boolean isForm() {
            return typeText().toLowerCase(Locale.ROOT).contains("urlencoded");
        }
    }

    interface Reading {
        Object read(Case of) throws Exception;
    }

    public static class Chat {
        private Object model;

        public Object getModel() {
            return model;
        }

        public void setModel(Object given) {
            model = given;
        }
    }

    private static final ObjectMapper JACKSON =
            new ObjectMapper().configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
    private static final ObjectMapper ANY_CASE =
            JsonMapper.builder()
                    .enable(MapperFeature.ACCEPT_CASE_INSENSITIVE_PROPERTIES)
                    .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
                    .build();
    private static final ObjectMapper LENIENT =
            JsonMapper.builder()
                    .enable(JsonReadFeature.values())
                    .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
                    .build();
    private static final Gson GSON = new Gson();

    private static Object of(Object document) {
        return document instanceof Map<?, ?> map ? map.get("model") : null;
    }

    private static Object of(Chat chat) {
        return chat == null ? null : chat.getModel();
    }

    private static Object netty(Case of) throws IOException {
        DefaultFullHttpRequest request =
                new DefaultFullHttpRequest(
                        HttpVersion.HTTP_1_1, HttpMethod.valueOf(of.methodText()), "/", Unpooled.wrappedBuffer(of.body()));
        if (of.type() != null) {
            request.headers().set("content-type", of.typeText());
        }
        if (!of.isForm() && !HttpPostRequestDecoder.isMultipart(request)) {
            return null;
        }
        HttpPostRequestDecoder decoder = new HttpPostRequestDecoder(new DefaultHttpDataFactory(false), request);
        try {
            Object found = null;
            for (InterfaceHttpData each : decoder.getBodyHttpDatas("model")) {
                found = each instanceof Attribute attribute ? attribute.getValue() : null;
            }
            return found;
        } finally {
            decoder.destroy();
        }
    }

    private static byte[] query(Case of) {
        String path = new String(of.path(), StandardCharsets.ISO_8859_1);
        int at = path.indexOf('?');
        return (at < 0 ? "" : path.substring(at + 1)).getBytes(StandardCharsets.ISO_8859_1);
    }

    /** As a servlet reads it: the parameters of the query, and then those of a form. */
    private static Parameters parameters(Case of, Charset charset, boolean queryToo) {
        Parameters found = new Parameters();
        found.setLimit(1000);
        found.setCharset(charset);
        found.setURLDecoder(new UDecoder());
        if (queryToo) {
            byte[] query = query(of);
            found.processParameters(query, 0, query.length);
        }
        if (of.isForm()) {
            found.processParameters(of.body().clone(), 0, of.body().length);
        }
        return found;
    }

    private static Object commons(Case of) throws Exception {
        var upload = new org.apache.commons.fileupload.FileUpload();
        var items =
                upload.getItemIterator(
                        new org.apache.commons.fileupload.RequestContext() {
                            public String getCharacterEncoding() {
                                return "utf-8";
                            }

                            public int getContentLength() {
                                return of.body().length;
                            }

                            public String getContentType() {
                                return of.typeText();
                            }

                            public InputStream getInputStream() {
                                return new ByteArrayInputStream(of.body());
                            }
                        });
        Object found = null;
        while (items.hasNext()) {
            var item = items.next();
            byte[] content = item.openStream().readAllBytes();
            if ("model".equals(item.getFieldName()) && item.isFormField()) {
                found = new String(content, StandardCharsets.UTF_8);
            }
        }
        return found;
    }

    private static Object tomcat(Case of) throws Exception {
        var upload = new org.apache.tomcat.util.http.fileupload.FileUpload();
        var items =
                upload.getItemIterator(
                        new org.apache.tomcat.util.http.fileupload.UploadContext() {
                            public String getCharacterEncoding() {
                                return "utf-8";
                            }

                            public long contentLength() {
                                return of.body().length;
                            }

                            public String getContentType() {
                                return of.typeText();
                            }

                            public InputStream getInputStream() {
                                return new ByteArrayInputStream(of.body());
                            }
                        });
        Object found = null;
        while (items.hasNext()) {
            var item = items.next();
            byte[] content = item.openStream().readAllBytes();
            if ("model".equals(item.getFieldName()) && item.isFormField()) {
                found = new String(content, StandardCharsets.UTF_8);
            }
        }
        return found;
    }

    private static Object undertow(Case of) throws Exception {
        String boundary = Headers.extractQuotedValueFromHeader(of.typeText(), "boundary");
        if (boundary == null || !of.typeText().toLowerCase(Locale.ROOT).startsWith("multipart/form-data")) {
            return null;
        }
        Map<String, String> found = new LinkedHashMap<>();
        var handler =
                new MultipartParser.PartHandler() {
                    private String name;
                    private ByteArrayOutputStream content;

                    public void beginPart(HeaderMap headers) {
                        String disposition = headers.getFirst(Headers.CONTENT_DISPOSITION);
                        boolean isField = disposition != null && disposition.startsWith("form-data");
                        name = isField ? Headers.extractQuotedValueFromHeader(disposition, "name") : null;
                        content = new ByteArrayOutputStream();
                    }

                    public void data(ByteBuffer buffer) {
                        while (buffer.hasRemaining()) {
                            content.write(buffer.get());
                        }
                    }

                    public void endPart() {
                        if (name != null) {
                            found.put(name, content.toString(StandardCharsets.UTF_8));
                        }
                    }
                };
        var pool = new io.undertow.server.DefaultByteBufferPool(false, 4096);
        var parser = MultipartParser.beginParse(pool, handler, boundary.getBytes(StandardCharsets.US_ASCII), "utf-8");
        try {
            parser.parse(ByteBuffer.wrap(of.body()));
            return parser.isComplete() ? found.get("model") : null;
        } finally {
            pool.close();
        }
    }

    private static Map<String, Reading> parsers() {
        Map<String, Reading> all = new LinkedHashMap<>();
        all.put("jackson, a map", of -> of(JACKSON.readValue(of.body(), Object.class)));
        all.put("jackson, a bean", of -> of(JACKSON.readValue(of.body(), Chat.class)));
        all.put("jackson, a bean, letter case does not count", of -> of(ANY_CASE.readValue(of.body(), Chat.class)));
        all.put("jackson, a bean, lenient", of -> of(LENIENT.readValue(of.body(), Chat.class)));
        all.put("gson, a map", of -> of(GSON.fromJson(of.text(), Object.class)));
        all.put("gson, a bean", of -> of(GSON.fromJson(of.text(), Chat.class)));
        all.put("fastjson2, a map", of -> of(JSON.parse(of.text())));
        all.put("fastjson2, a bean", of -> of(JSON.parseObject(of.text(), Chat.class)));
        all.put("org.json", of -> new JSONObject(of.text()).opt("model"));
        all.put("netty", Parsers::netty);
        all.put("tomcat, a form", of -> parameters(of, StandardCharsets.UTF_8, false).getParameter("model"));
        all.put("tomcat getParameter", of -> parameters(of, StandardCharsets.UTF_8, true).getParameter("model"));
        all.put("tomcat getParameter, Latin-1", of -> parameters(of, StandardCharsets.ISO_8859_1, true).getParameter("model"));
        all.put("tomcat, parts", Parsers::tomcat);
        all.put("commons-fileupload", Parsers::commons);
        all.put("undertow, parts", Parsers::undertow);
        return all;
    }

    private static byte[] field(DataInputStream input) throws IOException {
        int size = input.readInt();
        return size == -1 ? null : input.readNBytes(size);
    }

    private static Object said(Reading parser, Case of) {
        try {
            Object found = parser.read(of);
            if (found == null || found == JSONObject.NULL || found instanceof String) {
                return found == JSONObject.NULL ? null : found;
            }
            return Map.of("other", String.valueOf(found));
        } catch (Exception | StackOverflowError error) {
            return null;
        }
    }

    public static void main(String[] arguments) throws IOException {
        java.util.logging.LogManager.getLogManager().reset();
        DataInputStream input = new DataInputStream(System.in);
        OutputStream output = new BufferedOutputStream(System.out);
        Map<String, Reading> all = parsers();
        // A lone surrogate can't be written otherwise.
        ObjectMapper writer = JsonMapper.builder().enable(JsonWriteFeature.ESCAPE_NON_ASCII).build();
        output.write(writer.writeValueAsBytes(new ArrayList<>(all.keySet())));
        output.write('\n');
        output.flush();
        while (true) {
            Case of;
            try {
                of = new Case(field(input), field(input), field(input), field(input));
            } catch (EOFException end) {
                return;
            }
            List<Object> found = new ArrayList<>();
            for (Reading parser : all.values()) {
                found.add(said(parser, of));
            }
            output.write(writer.writeValueAsBytes(found));
            output.write('\n');
            output.flush();
        }
    }
}
