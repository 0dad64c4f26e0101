<?php
// Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
ini_set('display_errors', 'stderr');

function form(string $text): mixed
{
    parse_str($text, $found);
    return $found['model'] ?? null;
}

function of(mixed $document): mixed
{
    return is_array($document) ? ($document['model'] ?? null) : null;
}

// PHP reads forms into $_POST only as a server: its own one, which ends with this process.
class Server
{
    private string $address;
    private mixed $process;

    public function __construct()
    {
        $listening = stream_socket_server('tcp://127.0.0.1:0');
        $this->address = stream_socket_get_name($listening, false);
        fclose($listening);
        $nowhere = ['file', '/dev/null', 'w'];
        $command = [PHP_BINARY, '-d', 'display_errors=0', '-d', 'request_order=GP', '-S', $this->address, __DIR__ . '/server.php'];
        $this->process = proc_open($command, [['pipe', 'r'], $nowhere, $nowhere], $pipes);
        register_shutdown_function(fn () => proc_terminate($this->process));
        do {
            $connection = @stream_socket_client("tcp://$this->address");
        } while ($connection === false && proc_get_status($this->process)['running']);
    }

    /** Return what it makes of a request: the models of $_POST and $_REQUEST. */
    public function ask(?string $type, string $path, string $body, string $method): array
    {
        $head = "$method $path HTTP/1.0\r\nContent-Length: " . strlen($body) . "\r\n";
        if ($type !== null) {
            $head .= "Content-Type: $type\r\n";
        }
        $connection = stream_socket_client("tcp://$this->address");
        fwrite($connection, "$head\r\n$body");
        $answer = explode("\r\n\r\n", stream_get_contents($connection), 2)[1] ?? '';
        fclose($connection);
        return unserialize($answer) ?: [null, null];
    }
}

$server = new Server();

// What reads any text as a form is asked only about what is called one.
$parsers = [
    'parse_str' => fn ($type, $path, $body, $method) => $type !== null && stripos($type, 'urlencoded') !== false ? form($body) : null,
    'parse_str, the query too' => fn ($type, $path, $body, $method) => $type !== null && stripos($type, 'urlencoded') !== false
        ? form($body) ?? form(explode('?', $path, 2)[1] ?? '') : null,
    '$_POST' => fn (...$one) => $server->ask(...$one)[0],
    '$_REQUEST' => fn (...$one) => $server->ask(...$one)[1],
    'json_decode' => fn ($type, $path, $body, $method) => of(json_decode($body, true)),
    'json_decode, an object' => fn ($type, $path, $body, $method) => json_decode($body)->model ?? null,
    'json_decode, ignoring what is no UTF-8' => fn ($type, $path, $body, $method) => of(json_decode($body, true, 512, JSON_INVALID_UTF8_IGNORE)),
];

function said(mixed $value): mixed
{
    if ($value === null) {
        return null;
    }
    return is_string($value) && mb_check_utf($value) ? $value : ['other' => bin2hex(serialize($value))];
}

function mb_check_utf(string $text): bool
{
    return preg_match('//u', $text) === 1;
}

function field(): ?string
{
    $size = fread(STDIN, 4);
    if ($size === false || strlen($size) < 4) {
        exit;
    }
    $size = unpack('N', $size)[1];
    if ($size === 0xFFFFFFFF) {
        return null;
    }
    $octets = '';
    while (strlen($octets) < $size) {
        $octets .= fread(STDIN, $size - strlen($octets));
    }
    return $octets;
}

echo json_encode(array_keys($parsers)), "\n";
while (true) {
    $method = field();
    $one = [field(), field(), field(), $method];
    $found = [];
    foreach ($parsers as $read) {
        try {
            $found[] = said(@$read(...$one));
        } catch (Throwable) {
            $found[] = null;
        }
    }
    echo json_encode($found), "\n";
}
