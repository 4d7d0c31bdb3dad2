# PLINK v2.00a3.5 AVX2 (9 Aug 2022), as packaged by Debian 12
set -e
plink2 --bfile tiny --bad-freqs --mac 1 --make-rel square --out rel
plink2 --bfile tiny --bad-freqs --mac 1 --make-rel cov square --out cov
mv rel.rel tiny.rel.tsv
mv cov.rel tiny.cov.tsv
rm -f rel.* cov.*
