# A testee without an SDK of this repository: it puts FractalLba.pm to the test (PROTOCOL.md).
use v5.36;
use Digest::SHA qw(sha256_hex);
use FindBin     ();
use JSON::PP    qw(decode_json encode_json);
use lib $FindBin::Bin;
use FractalLba;

sub bytes ($hex)   { return pack 'H*', $hex }
sub hex_of ($text) { return unpack 'H*', $text }
sub double ($bits) { return unpack 'd>', bytes($bits) }

sub canon_number ($args) {
    my $n = FractalLba::nano($args->{member}, double($args->{f64}));
    return {text => FractalLba::number_text($n / 1e9), nano => sprintf '%d', $n};
}

sub canon_string ($args) {
    my $text = FractalLba::from_utf16($args->{utf16});
    FractalLba::check_shard_id($text);
    return {utf8 => hex_of(FractalLba::quoted($text))};
}

sub typed ($values) {
    my %record = (epoch => ['n', $values->{epoch}]);
    $record{$_} = ['d', double($values->{$_})] for qw(D_hat budget coh_star r);
    $record{$_} = ['s', FractalLba::from_utf16($values->{$_})] for qw(merkle_root pcs_id shard_id);
    return \%record;
}

sub json ($args) { return FractalLba::parse(bytes($args->{json})) }

sub canon_record ($args) {
    my $record = $args->{entry} eq 'typed' ? typed($args->{values}) : json($args);
    my ($payload, $body) = FractalLba::payload($record, $args->{sig_v} // 1);
    my %answer = (payload => hex_of($payload), sha256 => sha256_hex($payload));
    return {%answer, $body ? (body_sha256 => $body) : ()};
}

sub jcs_document ($args) { return {utf8 => hex_of(FractalLba::jcs(['o', json($args)]))} }

sub sign_hmac ($args) {
    my ($sig, $record) = FractalLba::sign_hmac(
        json($args), bytes($args->{key}),
        version => $args->{sig_v}, kid => $args->{kid}, tenant => $args->{tenant},
        allow_short_key => ($args->{allow_short_key} // '') eq 'true',
    );
    return {sig => $sig, record => hex_of($record)};
}

sub id_derive ($args) {
    my ($pcs_id, $content) = FractalLba::identity(json($args));
    return {pcs_id => $pcs_id, content => $content};
}

my %OPS = (
    'canon.number' => \&canon_number,
    'canon.string' => \&canon_string,
    'canon.record' => \&canon_record,
    'jcs.document' => \&jcs_document,
    'sign.hmac'    => \&sign_hmac,
    'id.derive'    => \&id_derive,
);

my %TESTEE = (name => 'perl', version => '0.1', language => 'perl', runtime => "$^V", os => $^O);
my %HELLO = (
    protocol => 1, testee => \%TESTEE, ops => [sort keys %OPS],
    levels => ['core'], policies => {}, in_flight => 16,
);

sub answer ($request) {
    my $op = $OPS{$request->{op}};
    return (skip => {reason => "$request->{op} is not written yet"}) if !$op;
    my $ok = eval { $op->($request->{args}) };
    return (ok => $ok) if $ok;
    die $@ if !ref $@;    # a mistake of this program: it ends, and the harness says `crash`
    return (err => {code => $@->{code}, message => "$@->{message}"});
}

$| = 1;    # each answer is flushed
while (my $line = <STDIN>) {
    my $request = decode_json($line);
    last if $request->{cmd} eq 'bye';
    my $is_hello = $request->{cmd} eq 'hello';
    my $message = $is_hello ? \%HELLO : {seq => $request->{seq}, answer($request)};
    print encode_json($message), "\n";
}
