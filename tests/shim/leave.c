/* Preloaded under ThreadSanitizer, so that tests which passed also end: libp11-kit, which comes with MPI and HDF5, frees a
 * locale as it is unloaded, and there the C library can wait for a lock that no thread holds. The process ends anyway. */
#include <locale.h>

void freelocale(locale_t unused) { (void)unused; }
