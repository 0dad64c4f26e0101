# Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
use strict;
use warnings;
use CGI ();
use Encode ();
use HTTP::Body ();
use JSON::PP ();
use JSON::XS ();

my $writer = JSON::PP->new->ascii->allow_nonref;
$CGI::LIST_CONTEXT_WARN = 0;

sub of { my ($document) = @_; return ref $document eq 'HASH' ? $document->{model} : undef }

# What reads any text as a form is asked only about what is called one.
sub is_form { my ($type) = @_; return defined $type && $type =~ /urlencoded/i }

sub by_cgi {
    my ($type, $path, $body, $method) = @_;
    local $ENV{REQUEST_METHOD} = $method;
    local $ENV{CONTENT_LENGTH} = length $body;
    local $ENV{CONTENT_TYPE}   = defined $type ? $type : '';
    local $ENV{QUERY_STRING}   = (split /\?/, $path, 2)[1] // '';
    return undef unless defined $type && $type =~ /urlencoded|multipart/i;
    open my $input, '<', \$body or die;
    CGI::initialize_globals();
    local *STDIN = $input;
    my $found = CGI->new;
    my $read = $found->param('model');
    return ref $read ? { file => 1 } : $read;
}

sub by_http_body {
    my ($type, $path, $body) = @_;
    return undef unless defined $type;
    my $parser = HTTP::Body->new($type, length $body);
    $parser->cleanup(1);
    $parser->add($body);
    my $read = $parser->param->{model};
    return ref $read eq 'ARRAY' ? { several => $read } : $read;
}

my @parsers = (
    ['JSON::PP',         sub { of(JSON::PP->new->utf8->decode($_[2])) }],
    ['JSON::PP, loose',  sub { of(JSON::PP->new->utf8->loose->relaxed->allow_singlequote->allow_barekey->decode($_[2])) }],
    ['JSON::XS',         sub { of(JSON::XS->new->utf8->decode($_[2])) }],
    ['JSON::XS, relaxed', sub { of(JSON::XS->new->utf8->relaxed->decode($_[2])) }],
    ['CGI',              \&by_cgi],
    ['HTTP::Body',       \&by_http_body],
);

sub said {
    my ($value) = @_;
    return undef unless defined $value;
    return { other => ref $value } if ref $value;
    return $value if utf8::is_utf8($value);
    my $copy = $value;
    my $text = eval { Encode::decode('UTF-8', $copy, Encode::FB_CROAK) };
    return defined $text ? $text : { other => 'not UTF-8' };
}

sub field {
    my $got = read STDIN, my $size, 4;
    exit unless $got;
    $size = unpack 'N', $size;
    return undef if $size == 0xFFFFFFFF;
    my $octets = '';
    read STDIN, $octets, $size if $size;
    return $octets;
}

binmode STDIN;
$| = 1;
print $writer->encode([map { $_->[0] } @parsers]), "\n";
while (1) {
    my $method = field();
    my @one = (field(), field(), field(), $method);
    my @found = map { my $read = $_->[1]; my @copy = @one; my $value = eval { said($read->(@copy)) }; $value } @parsers;
    print $writer->encode(\@found), "\n";
}
