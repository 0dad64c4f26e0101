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

// What reads any text as a form is asked only about what is called one.
$parsers = [
    'parse_str' => fn ($type, $path, $body) => $type !== null && stripos($type, 'urlencoded') !== false ? form($body) : null,
    'parse_str, the query too' => fn ($type, $path, $body) => $type !== null && stripos($type, 'urlencoded') !== false
        ? form($body) ?? form(explode('?', $path, 2)[1] ?? '') : null,
    'json_decode' => fn ($type, $path, $body) => of(json_decode($body, true)),
    'json_decode, an object' => fn ($type, $path, $body) => json_decode($body)->model ?? null,
    'json_decode, ignoring what is no UTF-8' => fn ($type, $path, $body) => of(json_decode($body, true, 512, JSON_INVALID_UTF8_IGNORE)),
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
    $one = [field(), field(), field()];
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
