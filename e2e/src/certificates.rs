//! Certificates for tests, made by openssl.

/// Lines of shell that make, in the folder `$1`, certificates of one authority and their keys: `ca`, `server` for the
/// subject's alternative name `$2` (`DNS:NAME`, `IP:ADDRESS`), `client`. A test adds what else it needs; `$key` has the options
/// for a new key.
pub const MAKE: &str = "
set -e
cd \"$1\"
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -batch'
openssl req -x509 $key -keyout ca-key.pem -out ca.pem -subj /CN=authority -days 2
for name in server client; do
    openssl req $key -keyout $name-key.pem -out $name.csr -subj /CN=$name
    case $name in
        server) printf 'subjectAltName=%s\\nextendedKeyUsage=serverAuth\\n' \"$2\" ;;
        client) printf 'extendedKeyUsage=clientAuth\\n' ;;
    esac > $name.ext
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile $name.ext -out $name.pem
done
";
